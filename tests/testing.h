// What the tests of ops and layers share: tensors, and comparisons that name the worst entry.
#pragma once

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/rng.h"
#include "core/tensor.h"

namespace moeut::testing {

/// One OpenMP thread until the end of the scope: thousands of tiny operations would spend their time at barriers.
class OneThread {
 public:
  OneThread() { omp_set_num_threads(1); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_ = omp_get_max_threads();
};

/// Standard normal numbers times `scale`; the same for every element type up to rounding.
inline Tensor random_tensor(const Shape& shape, uint64_t stream, double scale = 1, DType dtype = DType::f64) {
  Rng rng(2024, stream);
  Tensor t = Tensor::empty(shape, DType::f64);
  for (int64_t i = 0; i < t.size(); ++i) t.data<double>()[i] = scale * rng.normal();
  return t.to(Device::cpu(), dtype);
}

/// Ids uniform in [0, bound).
inline Tensor random_ids(const Shape& shape, int64_t bound, uint64_t stream) {
  Rng rng(2024, stream);
  Tensor t = Tensor::empty(shape, DType::i32);
  for (int64_t i = 0; i < t.size(); ++i) {
    t.data<int32_t>()[i] = static_cast<int32_t>(rng.uniform() * static_cast<double>(bound));
  }
  return t;
}

/// Router logits: each row of `experts` is a random order of numbers at least 0.3 apart, so that no small step changes
/// which are the largest.
inline Tensor logits_without_ties(const Shape& shape, int64_t experts, uint64_t stream, DType dtype = DType::f64) {
  Rng rng(2024, stream);
  Tensor t = Tensor::empty(shape, DType::f64);
  std::vector<double> row(static_cast<size_t>(experts));
  for (int64_t begin = 0; begin < t.size(); begin += experts) {
    for (size_t e = 0; e < row.size(); ++e) {
      row[e] = 0.4 * (static_cast<double>(e) - 0.5 * static_cast<double>(experts)) + 0.1 * rng.uniform();
      std::swap(row[e], row[static_cast<size_t>(rng.uniform() * static_cast<double>(e + 1))]);
    }
    std::copy(row.begin(), row.end(), t.data<double>() + begin);
  }
  return t.to(Device::cpu(), dtype);
}

inline Tensor f64(const std::vector<double>& values, const Shape& shape) {
  return Tensor::from(values, shape);
}

/// The elements of a floating tensor.
inline std::vector<double> elements(const Tensor& t) {
  return t.to(Device::cpu(), DType::f64).to_vector<double>();
}

inline double epsilon(DType dtype) {
  return dtype == DType::f64 ? std::numeric_limits<double>::epsilon() : std::numeric_limits<float>::epsilon();
}

/// "(1, 0, 2)": the place of element i.
inline std::string place_of(const Shape& shape, int64_t i) {
  std::string text = ")";
  for (int d = shape.rank() - 1; d >= 0; --d) {
    text = (d > 0 ? ", " : "(") + std::to_string(i % shape[d]) + text;
    i /= shape[d];
  }
  return shape.rank() == 0 ? "()" : text;
}

/// |actual - expected| <= relative · |expected|. (doctest::Approx adds 1 to the scale: small numbers would all be
/// equal.)
inline void expect_near(double actual, double expected, double relative) {
  CHECK_MESSAGE(std::abs(actual - expected) <= relative * std::abs(expected),
                fmt::format("{:.17g} instead of {:.17g}, allowed {:.1e} of it", actual, expected, relative));
}

/// Every element within `roundings` roundings of the element type of what is expected, measured at the largest expected
/// magnitude: an element that is a sum of n products of that size goes through about 2n of them.
inline void expect_close(const Tensor& actual, const Tensor& expected, double roundings = 64) {
  REQUIRE_MESSAGE(actual.defined(), "the tensor is undefined");
  REQUIRE(actual.shape() == expected.shape());
  const std::vector<double> a = elements(actual), e = elements(expected);
  double largest = 0, worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < e.size(); ++i) {
    largest = std::max(largest, std::abs(e[i]));
    if (const double d = std::abs(a[i] - e[i]); !(d <= worst)) worst = d, where = i;  // a NaN is the worst
  }
  const double allowed = roundings * epsilon(actual.dtype()) * largest;
  if (e.empty()) return;
  CHECK_MESSAGE(worst <= allowed, fmt::format("worst at {}: {:.17g} instead of {:.17g}, off by {:.2e}, allowed {:.2e}",
                                              place_of(expected.shape(), static_cast<int64_t>(where)), a[where],
                                              e[where], worst, allowed));
}

inline void expect_close(const Tensor& actual, const std::vector<double>& expected, double roundings = 64) {
  expect_close(actual, Tensor::from(expected, actual.shape()), roundings);
}

/// ‖actual - expected‖₂ / ‖expected‖₂; infinity if an element is not finite.
inline double relative_l2(const Tensor& actual, const Tensor& expected) {
  REQUIRE(actual.size() == expected.size());
  const std::vector<double> a = elements(actual), e = elements(expected);
  double difference = 0, norm = 0;
  for (size_t i = 0; i < e.size(); ++i) {
    difference += (a[i] - e[i]) * (a[i] - e[i]);
    norm += e[i] * e[i];
  }
  const double error = norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape() || a.dtype() != b.dtype()) return false;
  const Tensor x = a.to(Device::cpu()), y = b.to(Device::cpu());
  return std::memcmp(x.raw(), y.raw(), x.bytes()) == 0;
}

inline void expect_same_bits(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  REQUIRE(a.size() == b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    INFO("tensor ", i);
    CHECK(same_bits(a[i], b[i]));
  }
}

}  // namespace moeut::testing
