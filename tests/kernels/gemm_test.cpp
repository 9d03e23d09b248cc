#include "kernels/gemm.h"

#include <algorithm>
#include <array>

#include "tests/kernels/kernel_testing.h"

namespace moeut::kernels {

namespace {

using namespace moeut::testing;

template <size_t N>
using Sizes = std::vector<std::array<int64_t, N>>;

/// A product with everything that may vary, its operands, and padding after each stored row.
template <class T>
struct Case {
  Gemm<T> g;
  std::vector<T> a, b, before;

  Case(int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b, Mode mode, int64_t padding = 3) {
    g = {.m = m, .n = n, .k = k, .transpose_a = transpose_a, .transpose_b = transpose_b, .mode = mode};
    g.scale = static_cast<T>(0.75);
    g.lda = (transpose_a ? m : k) + padding, g.ldb = (transpose_b ? k : n) + padding, g.ldc = n + padding;
    a = random_values<T>((transpose_a ? k : m) * g.lda, 1);
    b = random_values<T>((transpose_b ? n : k) * g.ldb, 2);
    before = mode == Mode::overwrite ? unset<T>(m * g.ldc) : random_values<T>(m * g.ldc, 3);
    g.a = a.data(), g.b = b.data();
  }

  /// C's elements without the padding, after checking that the padding was left alone.
  template <class Run>
  std::vector<T> run(Run&& product) const {
    std::vector<T> c = before, dense;
    for (int64_t i = 0; i < g.m; ++i) std::fill_n(c.begin() + i * g.ldc + g.n, g.ldc - g.n, T(7));
    Gemm<T> args = g;
    args.c = c.data();
    product(args);
    for (int64_t i = 0; i < g.m; ++i) {
      const T* row = c.data() + i * g.ldc;
      dense.insert(dense.end(), row, row + g.n);
      CHECK(std::all_of(row + g.n, row + g.ldc, [](T x) { return x == T(7); }));
    }
    return dense;
  }

  std::vector<double> reference() const {
    std::vector<double> c;
    for (int64_t i = 0; i < g.m; ++i) {
      for (int64_t j = 0; j < g.n; ++j) {
        double sum = 0;
        for (int64_t l = 0; l < g.k; ++l) {
          const T x = a[static_cast<size_t>(g.transpose_a ? l * g.lda + i : i * g.lda + l)];
          const T y = b[static_cast<size_t>(g.transpose_b ? j * g.ldb + l : l * g.ldb + j)];
          sum += static_cast<double>(x) * static_cast<double>(y);
        }
        c.push_back(0.75 * sum +
                    (g.mode == Mode::accumulate ? static_cast<double>(before[static_cast<size_t>(i * g.ldc + j)]) : 0));
      }
    }
    return c;
  }

  /// K additions of random sign: each rounds a partial sum, and the errors add like a random walk, to eps/2 · √(K/2) of
  /// the result's norm; some more for the scale, for C before, and for few elements.
  double tolerance() const { return kEpsilon<T> * (std::sqrt(static_cast<double>(g.k)) + 3); }
};

template <class T>
void parallel(const Gemm<T>& g) {
  gemm<T>(Cpu{}, Launch{}, g);
}

}  // namespace

TEST_CASE_TEMPLATE("gemm by hand", T, float, double) {
  const std::vector<T> a = {1, 2, 3, 4, 5, 6}, b = {1, 0, -1, 2, 1, 1};
  std::vector<T> c = unset<T>(4);
  gemm<T>(Cpu{}, Launch{},
          {.m = 2, .n = 2, .k = 3, .a = a.data(), .lda = 3, .b = b.data(), .ldb = 2, .c = c.data(), .ldc = 2});
  CHECK(c == std::vector<T>{2, 7, 5, 16});
  // aᵀ (3, 2) · bᵀ (2, 3), half of it added.
  std::vector<T> d(9, T(1));
  gemm<T>(Cpu{}, Launch{},
          {.m = 3,
           .n = 3,
           .k = 2,
           .a = a.data(),
           .lda = 3,
           .transpose_a = true,
           .b = b.data(),
           .ldb = 2,
           .transpose_b = true,
           .c = d.data(),
           .ldc = 3,
           .mode = Mode::accumulate,
           .scale = T(0.5)});
  CHECK(d == std::vector<T>{1.5, 4.5, 3.5, 2, 5, 4.5, 2.5, 5.5, 5.5});
}

TEST_CASE_TEMPLATE("gemm against plain loops: shapes, transposes, modes, pitches", T, float, double) {
  for (bool transpose_a : {false, true}) {
    for (bool transpose_b : {false, true}) {
      for (Mode mode : {Mode::overwrite, Mode::accumulate}) {
        for (auto [m, n, k] :
             Sizes<3>{{1, 1, 1}, {1, 412, 82}, {82, 1, 20}, {5, 20, 1}, {2, 3, 412}, {33, 82, 5}, {130, 270, 41}}) {
          INFO(m, " x ", n, " x ", k, " transposes ", transpose_a, transpose_b, " accumulate ",
               mode == Mode::accumulate);
          const Case<T> c(m, n, k, transpose_a, transpose_b, mode);
          CHECK(relative_error(c.run(parallel<T>), c.reference()) <= c.tolerance());
          CHECK(relative_error(c.run([](const Gemm<T>& g) { gemm_serial(g); }), c.reference()) <= c.tolerance());
        }
      }
    }
  }
}

TEST_CASE("gemm covers C by tiles of every size, without a row or column missing or twice") {
  for (auto [m, n] : Sizes<2>{{1, 8000}, {2049, 3}, {513, 513}, {1025, 700}, {155, 412}, {2100, 2100}}) {
    INFO(m, " x ", n);
    const Case<float> c(m, n, 2, false, true, Mode::accumulate, 0);
    CHECK(relative_error(c.run(parallel<float>), c.reference()) <= c.tolerance());
  }
}

TEST_CASE_TEMPLATE("gemm with an empty side", T, float, double) {
  const Case<T> no_inner(4, 5, 0, false, false, Mode::overwrite), kept(4, 5, 0, true, false, Mode::accumulate);
  CHECK(no_inner.run(parallel<T>) == std::vector<T>(20, T(0)));
  CHECK(relative_error(kept.run(parallel<T>), kept.reference()) == 0);
  CHECK(Case<T>(0, 5, 3, false, false, Mode::overwrite).run(parallel<T>).empty());
  CHECK(Case<T>(5, 0, 3, false, false, Mode::overwrite).run(parallel<T>).empty());
}

TEST_CASE_TEMPLATE("gemm has the same bits on any number of threads", T, float, double) {
  for (auto [m, n, k] : Sizes<3>{{300, 700, 100}, {1, 3000, 82}, {3000, 1, 82}, {64, 64, 2000}}) {
    const Case<T> c(m, n, k, false, true, Mode::overwrite);
    same_on_any_threads([&] { return c.run(parallel<T>); });
  }
}

TEST_CASE("gemm_serial may be called from many threads at once") {
  const Case<float> c(70, 90, 50, true, false, Mode::accumulate);
  const std::vector<float> expected = c.run([](const Gemm<float>& g) { gemm_serial(g); });
  std::vector<int> same(32, 0);
#pragma omp parallel for num_threads(4)
  for (size_t i = 0; i < same.size(); ++i) {
    std::vector<float> out = c.before;
    Gemm<float> g = c.g;
    g.c = out.data();
    gemm_serial(g);
    bool equal = true;
    for (int64_t r = 0; r < g.m; ++r) {
      equal = equal && std::memcmp(out.data() + r * g.ldc, expected.data() + r * g.n,
                                   static_cast<size_t>(g.n) * sizeof(float)) == 0;
    }
    same[i] = equal ? 1 : 0;
  }
  CHECK(same == std::vector<int>(32, 1));
}

}  // namespace moeut::kernels
