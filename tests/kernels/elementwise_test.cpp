#include "kernels/elementwise.h"

#include <algorithm>

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

TEST_CASE_TEMPLATE("fill: every element and none beyond", T, float, double) {
  for (const int64_t n : {0, 1, 16385}) {
    std::vector<T> y(static_cast<size_t>(n) + 1, T(7));
    kernels::fill<T>(Cpu{}, Launch{}, n, T(0.5), y.data());
    CHECK(std::count(y.begin(), y.end(), T(0.5)) == n);
    CHECK(y.back() == 7);
  }
}

TEST_CASE_TEMPLATE("scale_copy, add, add_bias: literals and modes", T, float, double) {
  const std::vector<T> a{1, 2, 3}, b{10, 20, 30};
  auto y = unset<T>(3);
  kernels::scale_copy<T>(Cpu{}, Launch{}, 3, T(2), a.data(), y.data(), Mode::overwrite);
  CHECK(y == std::vector<T>{2, 4, 6});
  kernels::scale_copy<T>(Cpu{}, Launch{}, 3, T(-1), b.data(), y.data(), Mode::accumulate);
  CHECK(y == std::vector<T>{-8, -16, -24});
  kernels::add<T>(Cpu{}, Launch{}, 3, a.data(), b.data(), y.data());
  CHECK(y == std::vector<T>{11, 22, 33});
  kernels::add<T>(Cpu{}, Launch{}, 3, y.data(), y.data(), y.data());
  CHECK(y == std::vector<T>{22, 44, 66});

  std::vector<T> rows{1, 2, 77, 3, 4, 77};  // two rows of two, three apart; the gap stays
  kernels::add_bias<T>(Cpu{}, Launch{}, 2, 2, b.data(), rows.data(), 3);
  CHECK(rows == std::vector<T>{11, 22, 77, 13, 24, 77});
}

TEST_CASE("copy_padded: a matrix in a larger one, or the part of it that fits") {
  const std::vector<float> x{1, 2, 77, 3, 4, 77};  // two rows of two, three apart
  auto y = unset<float>(12);
  kernels::PaddedCopy<float, float> args{
      .rows = 2, .width = 2, .x = x.data(), .ldx = 3, .padded_rows = 3, .padded_width = 4, .y = y.data()};
  kernels::copy_padded(Cpu{}, Launch{}, args);
  CHECK(y == std::vector<float>{1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0});
  args.mode = Mode::accumulate;
  kernels::copy_padded(Cpu{}, Launch{}, args);
  CHECK(y == std::vector<float>{2, 4, 0, 0, 6, 8, 0, 0, 0, 0, 0, 0});
  std::vector<BFloat16> narrow(2);
  kernels::copy_padded<float, BFloat16>(
      Cpu{}, Launch{},
      {.rows = 1, .width = 1, .x = x.data(), .ldx = 3, .padded_rows = 1, .padded_width = 2, .y = narrow.data()});
  CHECK(float(narrow[0]) == 1);
  CHECK(float(narrow[1]) == 0);
}

TEST_CASE("scale_by_ratio: literals and modes") {
  const std::vector<float> x{1, 2, 3}, three{3}, two{2};
  auto y = unset<float>(3);
  kernels::scale_by_ratio<float>(Cpu{}, Launch{}, 3, three.data(), two.data(), x.data(), y.data(), Mode::overwrite);
  CHECK(y == std::vector<float>{1.5, 3, 4.5});
  kernels::scale_by_ratio<float>(Cpu{}, Launch{}, 3, three.data(), nullptr, x.data(), y.data(), Mode::accumulate);
  CHECK(y == std::vector<float>{4.5, 9, 13.5});
}

TEST_CASE_TEMPLATE("scale_copy, add, add_bias: whole blocks and tails, the same bits on any number of threads", T,
                   float, double) {
  const int64_t rows = 41, n = 1003, size = rows * n;
  const auto a = random_values<T>(size, 1), b = random_values<T>(size, 2);
  std::vector<double> expected(static_cast<size_t>(size));
  for (size_t i = 0; i < expected.size(); ++i) {
    expected[i] = 3 * (static_cast<double>(a[i]) + static_cast<double>(b[i])) +
                  static_cast<double>(b[i % static_cast<size_t>(n)]);
  }
  const auto y = same_on_any_threads([&] {
    auto sum = unset<T>(size), result = unset<T>(size);
    kernels::add<T>(Cpu{}, Launch{}, size, a.data(), b.data(), sum.data());
    kernels::scale_copy<T>(Cpu{}, Launch{}, size, T(3), sum.data(), result.data(), Mode::overwrite);
    kernels::add_bias<T>(Cpu{}, Launch{}, rows, n, b.data(), result.data(), n);
    return result;
  });
  CHECK(relative_error(y, expected) < 2 * kEpsilon<T>);
}

TEST_CASE_TEMPLATE("dropout: exactly the elements that the generator names", T, float, double) {
  const RngState rng{.seed = 42, .first_sample = 7};
  for (const int64_t n : {int64_t{1}, int64_t{259}, int64_t{17001}}) {
    const int64_t sequences = 3;
    const auto x = random_values<T>(sequences * n, 3);
    for (const double p : {0.1, 0.5, 0.9999999}) {
      std::vector<T> expected(x.size());
      for (size_t i = 0; i < x.size(); ++i) {
        const auto [b, e] = std::div(static_cast<long>(i), static_cast<long>(n));
        const float u = dropout_uniform(rng, static_cast<uint64_t>(b), 9, static_cast<uint64_t>(e));
        expected[i] = static_cast<double>(u) >= p ? x[i] * static_cast<T>(1 / (1 - p)) : T(0);
      }
      kernels::Dropout<T> args{.sequences = sequences, .n = n, .p = p, .rng = &rng, .site = 9, .x = x.data()};
      const auto y = same_on_any_threads([&] {
        auto out = unset<T>(sequences * n);
        args.y = out.data();
        kernels::dropout<T>(Cpu{}, Launch{}, args);
        return out;
      });
      CHECK(y == expected);
      auto onto = x;
      args.y = onto.data();
      args.mode = Mode::accumulate;
      kernels::dropout<T>(Cpu{}, Launch{}, args);
      CHECK(relative_error(onto, sum_of(x, in_double(expected))) < kEpsilon<T>);
    }
  }
}

TEST_CASE("dropout: the kept share and the mean are what they should be") {
  const RngState rng{.seed = 1, .first_sample = 0};
  const int64_t n = 200000;
  std::vector<float> x(static_cast<size_t>(n), 1.0f);
  kernels::dropout<float>(
      Cpu{}, Launch{},
      {.sequences = 1, .n = n, .p = 0.3, .rng = &rng, .site = 1, .x = x.data(), .y = x.data()});  // in place
  double sum = 0;
  for (float v : x) sum += static_cast<double>(v);
  // Standard deviation of the mean: √(0.3 / 0.7 / n) = 1.5e-3; five of them.
  CHECK(std::abs(sum / static_cast<double>(n) - 1) < 7.5e-3);
}

TEST_CASE_TEMPLATE("head_gate: literals", T, float, double) {
  const std::vector<T> x{1, 2, 3, 4}, logit{0, static_cast<T>(std::log(3.0))}, dy{1, 1, 1, 0};  // gates 1/2 and 3/4
  auto y = unset<T>(4), dx = unset<T>(4), dlogit = unset<T>(2);
  kernels::head_gate_forward<T>(Cpu{}, Launch{}, 1, 2, 2, x.data(), logit.data(), y.data());
  CHECK(relative_error(y, {0.5, 1, 2.25, 3}) < 2 * kEpsilon<T>);
  kernels::HeadGateBackward<T> args{.rows = 1,
                                    .heads = 2,
                                    .head_dim = 2,
                                    .x = x.data(),
                                    .logit = logit.data(),
                                    .dy = dy.data(),
                                    .dx = dx.data(),
                                    .dlogit = dlogit.data()};
  kernels::head_gate_backward<T>(Cpu{}, Launch{}, args);
  CHECK(relative_error(dx, {0.5, 0.5, 0.75, 0}) < 2 * kEpsilon<T>);
  CHECK(relative_error(dlogit, {0.75, 0.5625}) < 3 * kEpsilon<T>);  // 1/4 (1 + 2), 3/16 · 3
  args.dx_mode = args.dlogit_mode = Mode::accumulate;
  kernels::head_gate_backward<T>(Cpu{}, Launch{}, args);
  CHECK(relative_error(dx, {1, 1, 1.5, 0}) < 2 * kEpsilon<T>);
  CHECK(relative_error(dlogit, {1.5, 1.125}) < 3 * kEpsilon<T>);
  args.dx = nullptr;
  args.dlogit_mode = Mode::overwrite;
  kernels::head_gate_backward<T>(Cpu{}, Launch{}, args);
  CHECK(relative_error(dlogit, {0.75, 0.5625}) < 3 * kEpsilon<T>);
}

TEST_CASE_TEMPLATE("head_gate: odd shapes against float64, saturated gates, the same bits on any number of threads", T,
                   float, double) {
  const int64_t rows = 301, heads = 3, dim = 41, gates = rows * heads;
  const auto x = random_values<T>(gates * dim, 1), dy = random_values<T>(gates * dim, 2);
  auto logit = random_values<T>(gates, 3);
  logit[0] = 1e4;
  logit[1] = -1e4;
  std::vector<double> expected(static_cast<size_t>(gates * dim)), dx(expected.size()),
      dlogit(static_cast<size_t>(gates));
  for (size_t i = 0; i < expected.size(); ++i) {
    const size_t g = i / static_cast<size_t>(dim);
    const double p = 1 / (1 + std::exp(-static_cast<double>(logit[g])));
    expected[i] = p * static_cast<double>(x[i]);
    dx[i] = p * static_cast<double>(dy[i]);
    dlogit[g] += p * (1 - p) * static_cast<double>(dy[i]) * static_cast<double>(x[i]);
  }
  const auto all = same_on_any_threads([&] {
    auto y = unset<T>(gates * dim), a = unset<T>(gates * dim), b = unset<T>(gates);
    kernels::head_gate_forward<T>(Cpu{}, Launch{}, rows, heads, dim, x.data(), logit.data(), y.data());
    kernels::head_gate_backward<T>(Cpu{}, Launch{},
                                   {.rows = rows,
                                    .heads = heads,
                                    .head_dim = dim,
                                    .x = x.data(),
                                    .logit = logit.data(),
                                    .dy = dy.data(),
                                    .dx = a.data(),
                                    .dlogit = b.data()});
    return joined(joined(y, a), b);
  });
  expected = joined(joined(expected, dx), dlogit);
  CHECK(relative_error(all, expected) < 4 * kEpsilon<T>);
}
