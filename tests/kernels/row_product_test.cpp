// Rows from anywhere times a matrix, against the definition.
#include "kernels/cpu/row_product.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/rng.h"

using namespace moeut;
using namespace moeut::kernels;

namespace {

/// Whole numbers in [-4, 4]: sums of a few hundred products are exact in float, in any order.
template <class T>
std::vector<T> whole_numbers(int64_t n, uint64_t stream) {
  Rng rng(7, stream);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& v : values) v = static_cast<T>(std::floor(rng.uniform() * 9) - 4);
  return values;
}

template <class T>
struct Case {
  int64_t rows, in, out;
  bool transpose = false, relu = false, scaled = false;
  int64_t pitch = out + 3;  ///< of y
  std::vector<T> x = whole_numbers<T>(rows * in, 1), w = whole_numbers<T>(in * out, 2),
                 scale = whole_numbers<T>(rows, 3);

  /// Rows last to first, so that the pointers are no stride.
  std::vector<const T*> pointers() const {
    std::vector<const T*> p;
    for (int64_t i = 0; i < rows; ++i) p.push_back(x.data() + (rows - 1 - i) * in);
    return p;
  }

  std::vector<T> product(int64_t first, int64_t count) const {
    std::vector<T> y(static_cast<size_t>(count * pitch), T(99)), buffer(static_cast<size_t>(row_product_buffer(in)));
    const auto p = pointers();
    row_product({.rows = count,
                 .in = in,
                 .out = out,
                 .x = p.data() + first,
                 .scale = scaled ? scale.data() + first : nullptr,
                 .weight = w.data(),
                 .transpose = transpose,
                 .relu = relu,
                 .y = y.data(),
                 .ldy = pitch},
                buffer.data());
    return y;
  }

  std::vector<T> definition() const {
    std::vector<T> y(static_cast<size_t>(rows * pitch), T(99));
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < out; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < in; ++p) {
          const auto at = static_cast<size_t>(transpose ? j * in + p : p * out + j);
          sum += static_cast<double>(x[static_cast<size_t>((rows - 1 - i) * in + p)]) * static_cast<double>(w[at]);
        }
        if (scaled) sum *= static_cast<double>(scale[static_cast<size_t>(i)]);
        y[static_cast<size_t>(i * pitch + j)] = static_cast<T>(relu && sum < 0 ? 0 : sum);
      }
    }
    return y;
  }
};

constexpr int64_t kRows[] = {1, 2, 3, 4, 5, 6, 7, 12, 13, 23};
/// Around the widths of vectors and panels of every instruction set.
constexpr int64_t kOut[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 41, 64, 82};

}  // namespace

TEST_CASE_TEMPLATE("row_product is its definition, exactly on whole numbers", T, float, double) {
  for (const int64_t rows : kRows) {
    for (const int64_t out : kOut) {
      for (const int64_t in : {1, 2, 3, 6, 33}) {
        for (const bool transpose : {false, true}) {
          CAPTURE(rows);
          CAPTURE(in);
          CAPTURE(out);
          CAPTURE(transpose);
          const bool relu = (rows + out) % 2 == 0, scaled = (rows + in) % 2 == 0;
          const Case<T> c{rows, in, out, transpose, relu, scaled};
          CHECK(c.product(0, rows) == c.definition());  // what lies between the rows of y is not touched
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("a row's bits do not depend on the rows beside it", T, float, double) {
  for (const bool transpose : {false, true}) {
    Case<T> c{23, 130, 41, transpose, false, true};
    Rng rng(3, 3);
    for (T& v : c.x) v = static_cast<T>(rng.normal());
    for (T& v : c.w) v = static_cast<T>(rng.normal());
    const std::vector<T> together = c.product(0, c.rows);
    for (int64_t i = 0; i < c.rows; ++i) {
      const std::vector<T> alone = c.product(i, 1);
      CAPTURE(i);
      CHECK(std::equal(alone.begin(), alone.end(), together.begin() + i * c.pitch));
    }
  }
}

TEST_CASE_TEMPLATE("row_product rounds like a sum of `in` products", T, float, double) {
  Case<T> c{9, 400, 20, true};
  Rng rng(4, 4);
  for (T& v : c.x) v = static_cast<T>(rng.normal());
  for (T& v : c.w) v = static_cast<T>(rng.normal());
  const std::vector<T> y = c.product(0, c.rows), exact = c.definition();
  // |error| <= in · eps · Σ|x·w|, and Σ|x·w| is below 2 · in for standard normal factors (mean 0.64 each).
  const double bound = 400 * static_cast<double>(std::numeric_limits<T>::epsilon()) * 800;
  for (size_t i = 0; i < y.size(); ++i)
    CHECK(std::abs(static_cast<double>(y[i]) - static_cast<double>(exact[i])) <= bound);
}

TEST_CASE_TEMPLATE("relu keeps NaN", T, float, double) {
  for (const int64_t out : {5, 16}) {
    Case<T> c{7, 3, out, false, true};
    c.x[3 * 2] = std::numeric_limits<T>::quiet_NaN();  // of stored row 2: row 4 of the product
    const std::vector<T> y = c.product(0, c.rows);
    for (int64_t i = 0; i < c.rows; ++i) {
      for (int64_t j = 0; j < out; ++j) CHECK(std::isnan(y[static_cast<size_t>(i * c.pitch + j)]) == (i == 4));
    }
  }
}
