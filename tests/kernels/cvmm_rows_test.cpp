#include "kernels/cvmm.h"

#include "tests/kernels/cvmm_testing.h"

namespace moeut::kernels {

using namespace moeut::testing;

TEST_CASE_TEMPLATE("cvmm row kernels by hand", T, float, double) {
  // Two tokens, two pairs each: token 0 chose experts 2 and 0, token 1 experts 0 and 2. Sorted: pairs 1, 2, 0, 3.
  const TestRoute route({2, 0, 0, 2}, 3);
  const std::vector<T> x = {1, 2}, gate = {10, 2, 1, 100}, y = {10, 0, 10, 1300};
  std::vector<T> out = unset<T>(2);
  CvmmCombine<T> combine{.route = route.raw(),
                         .group = 2,
                         .width = 1,
                         .y = y.data(),
                         .ldy = 1,
                         .gate = gate.data(),
                         .out = out.data(),
                         .ldout = 1};
  cvmm_combine(Cpu{}, Launch{}, combine);
  CHECK(out == std::vector<T>{10 * 10 + 2 * 10, 1 * 0 + 100 * 1300});
  combine.gate = nullptr, combine.mode = Mode::accumulate;
  cvmm_combine(Cpu{}, Launch{}, combine);
  CHECK(out == std::vector<T>{120 + 20, 130000 + 1300});

  std::vector<T> dgate = unset<T>(4);
  cvmm_gate_gradient<T>(Cpu{}, Launch{},
                        {.route = route.raw(),
                         .width = 1,
                         .y = y.data(),
                         .ldy = 1,
                         .x = {x.data(), 1, 2, nullptr},
                         .dgate = dgate.data()});
  CHECK(dgate == std::vector<T>{10 * 1, 10 * 1, 0 * 2, 1300 * 2});

  std::vector<T> h = y;
  std::vector<T> da = {3, 4, 5, 6};
  cvmm_hidden_backward<T>(
      Cpu{}, Launch{},
      {.route = route.raw(), .width = 1, .h = h.data(), .gate = gate.data(), .da = da.data(), .dgate = dgate.data()});
  CHECK(dgate == std::vector<T>{5 * 10, 3 * 10, 4 * 0, 6 * 1300});
  CHECK(da == std::vector<T>{2 * 3, 0, 10 * 5, 100 * 6});
  CHECK(h == std::vector<T>{2 * 10, 0, 10 * 10, 100 * 1300});
}

TEST_CASE_TEMPLATE("cvmm row kernels against plain loops", T, float, double) {
  for (const CvmmSize& s : kCvmmSizes) {
    INFO("tokens ", s.tokens, " group ", s.group, " width ", s.out);
    const TestRoute route = random_route(s.tokens, s.group, s.experts, 5);
    const Operand<T> y(route, s.out, 0, false, 1), x(route, s.out, s.group, false, 2);
    const std::vector<T> gate = random_values<T>(route.pairs(), 3), before = random_values<T>(s.tokens * s.out, 4);
    std::vector<double> combined(before.size(), 0.0), dgate(gate.size(), 0.0);
    for (int64_t pair = 0; pair < route.pairs(); ++pair) {
      const int64_t place = TestRoute::at(route.place, pair);
      for (int64_t j = 0; j < s.out; ++j) {
        combined[static_cast<size_t>(pair / s.group * s.out + j)] +=
            static_cast<double>(gate[static_cast<size_t>(pair)]) * y.at(route, place, j);
        dgate[static_cast<size_t>(pair)] += y.at(route, place, j) * x.at(route, place, j);
      }
    }
    std::vector<T> out = unset<T>(s.tokens * s.out), dgate_out = unset<T>(route.pairs());
    CvmmCombine<T> combine{.route = route.raw(),
                           .group = s.group,
                           .width = s.out,
                           .y = y.data.data(),
                           .ldy = s.out + 2,
                           .gate = gate.data(),
                           .out = out.data(),
                           .ldout = s.out};
    cvmm_combine(Cpu{}, Launch{}, combine);
    CHECK(relative_error(out, combined) <= sum_tolerance<T>(s.group));
    out = before, combine.mode = Mode::accumulate;
    cvmm_combine(Cpu{}, Launch{}, combine);
    CHECK(relative_error(out, sum_of(before, combined)) <= sum_tolerance<T>(s.group));
    cvmm_gate_gradient<T>(Cpu{}, Launch{},
                          {.route = route.raw(),
                           .width = s.out,
                           .y = y.data.data(),
                           .ldy = s.out + 2,
                           .x = x.raw(),
                           .dgate = dgate_out.data()});
    CHECK(relative_error(dgate_out, dgate) <= sum_tolerance<T>(s.out));
  }
}

TEST_CASE_TEMPLATE("cvmm_hidden_backward against plain loops", T, float, double) {
  constexpr int64_t kWidth = 82;
  const TestRoute route = random_route(40, 3, 7, 5);
  std::vector<T> h = random_values<T>(route.pairs() * kWidth, 1), da = random_values<T>(route.pairs() * kWidth, 2),
                 dgate = unset<T>(route.pairs());
  for (T& v : h) v = std::max(v, T(0));
  const std::vector<T> gate = random_values<T>(route.pairs(), 3);
  std::vector<double> expected_da(da.size()), expected_h(h.size()), expected_dgate(gate.size(), 0.0);
  for (int64_t r = 0; r < route.pairs(); ++r) {
    const auto pair = static_cast<size_t>(TestRoute::at(route.order, r));
    for (auto i = static_cast<size_t>(r * kWidth); i < static_cast<size_t>((r + 1) * kWidth); ++i) {
      expected_dgate[pair] += static_cast<double>(da[i]) * static_cast<double>(h[i]);
      expected_da[i] = h[i] > 0 ? static_cast<double>(gate[pair]) * static_cast<double>(da[i]) : 0;
      expected_h[i] = static_cast<double>(gate[pair]) * static_cast<double>(h[i]);
    }
  }
  cvmm_hidden_backward<T>(Cpu{}, Launch{},
                          {.route = route.raw(),
                           .width = kWidth,
                           .h = h.data(),
                           .gate = gate.data(),
                           .da = da.data(),
                           .dgate = dgate.data()});
  CHECK(relative_error(da, expected_da) <= kEpsilon<T>);  // one product an element
  CHECK(relative_error(h, expected_h) <= kEpsilon<T>);
  CHECK(relative_error(dgate, expected_dgate) <= sum_tolerance<T>(kWidth));
}

TEST_CASE_TEMPLATE("cvmm row kernels have the same bits on any number of threads", T, float, double) {
  constexpr int64_t kTokens = 300, kGroup = 4, kWidth = 41;
  const TestRoute route = random_route(kTokens, kGroup, 9, 5);
  const std::vector<T> y = random_values<T>(route.pairs() * kWidth, 1), x = random_values<T>(kTokens * kWidth, 2);
  const std::vector<T> gate = random_values<T>(route.pairs(), 3);
  same_on_any_threads([&] {
    std::vector<T> out = unset<T>(kTokens * kWidth), da = random_values<T>(route.pairs() * kWidth, 4);
    std::vector<T> dgate = unset<T>(route.pairs()), hidden_dgate = dgate, h = y;
    cvmm_combine<T>(Cpu{}, Launch{},
                    {.route = route.raw(),
                     .group = kGroup,
                     .width = kWidth,
                     .y = y.data(),
                     .ldy = kWidth,
                     .gate = gate.data(),
                     .out = out.data(),
                     .ldout = kWidth});
    cvmm_gate_gradient<T>(Cpu{}, Launch{},
                          {.route = route.raw(),
                           .width = kWidth,
                           .y = y.data(),
                           .ldy = kWidth,
                           .x = {x.data(), kWidth, kGroup, nullptr},
                           .dgate = dgate.data()});
    cvmm_hidden_backward<T>(Cpu{}, Launch{},
                            {.route = route.raw(),
                             .width = kWidth,
                             .h = h.data(),
                             .gate = gate.data(),
                             .da = da.data(),
                             .dgate = hidden_dgate.data()});
    return joined(joined(out, dgate), joined(joined(da, h), hidden_dgate));
  });
}

}  // namespace moeut::kernels
