#include "kernels/cvmm.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "tests/kernels/kernel_testing.h"

namespace moeut::kernels {

namespace {

using namespace moeut::testing;

/// A route and its memory, sorted as kernels/routing.h states it.
struct TestRoute {
  std::vector<int32_t> order, place, expert, offsets;

  TestRoute(std::vector<int32_t> experts_of_pairs, int64_t experts) : expert(std::move(experts_of_pairs)) {
    order.resize(expert.size()), place.resize(expert.size()), offsets.assign(static_cast<size_t>(experts) + 1, 0);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](int32_t s, int32_t t) { return std::pair(at(expert, s), s) < std::pair(at(expert, t), t); });
    for (size_t r = 0; r < order.size(); ++r) place[static_cast<size_t>(order[r])] = static_cast<int32_t>(r);
    for (int32_t e : expert) ++offsets[static_cast<size_t>(e) + 1];
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  }

  static int32_t at(const std::vector<int32_t>& v, int64_t i) { return v[static_cast<size_t>(i)]; }
  int64_t pairs() const { return static_cast<int64_t>(order.size()); }
  int64_t experts() const { return static_cast<int64_t>(offsets.size()) - 1; }
  Route raw() const { return {pairs(), experts(), order.data(), place.data(), expert.data(), offsets.data()}; }
};

/// `group` experts for each of `tokens` rows, each row's all different; some experts may stay without a pair.
TestRoute random_route(int64_t tokens, int64_t group, int64_t experts, uint64_t stream) {
  Rng rng(7, stream);
  std::vector<int32_t> all(static_cast<size_t>(experts)), chosen;
  std::iota(all.begin(), all.end(), 0);
  for (int64_t t = 0; t < tokens; ++t) {
    for (size_t i = all.size() - 1; i > 0; --i)
      std::swap(all[i], all[static_cast<size_t>(rng.uniform() * static_cast<double>(i + 1))]);
    chosen.insert(chosen.end(), all.begin(), all.begin() + group);
  }
  return {chosen, experts};
}

/// How one row operand is given: sorted or gathered by `divisor`, gated or not, with padding after each row.
template <class T>
struct Operand {
  std::vector<T> data, gate;
  int64_t width, divisor;

  Operand(const TestRoute& route, int64_t row_width, int64_t divides, bool gated, uint64_t stream)
      : width(row_width), divisor(divides) {
    data = random_values<T>((divisor == 0 ? route.pairs() : route.pairs() / divisor) * (width + 2), stream);
    if (gated) gate = random_values<T>(route.pairs(), stream + 100);
  }
  PairRows<T> raw() const { return {data.data(), width + 2, divisor, gate.empty() ? nullptr : gate.data()}; }

  /// Element j of the row of sorted place r, in float64.
  double at(const TestRoute& route, int64_t r, int64_t j) const {
    const int64_t pair = TestRoute::at(route.order, r);
    const double factor = gate.empty() ? 1 : static_cast<double>(gate[static_cast<size_t>(pair)]);
    return factor *
           static_cast<double>(data[static_cast<size_t>((divisor == 0 ? r : pair / divisor) * (width + 2) + j)]);
  }
};

/// Rounding of sums of k products, as in gemm_test.cpp, and of the gates.
template <class T>
double sum_tolerance(int64_t k) {
  return kEpsilon<T> * (std::sqrt(static_cast<double>(k)) + 3);
}

template <class T>
std::vector<T> run_cvmm(const TestRoute& route, const Operand<T>& x, const std::vector<T>& weight, int64_t out,
                        bool transpose, bool relu) {
  std::vector<T> y = unset<T>(route.pairs() * out);
  Workspace workspace(cvmm_workspace_bytes<T>(Cpu{}, x.width, out));
  cvmm<T>(Cpu{}, workspace,
          {.route = route.raw(),
           .in = x.width,
           .out = out,
           .x = x.raw(),
           .weight = weight.data(),
           .transpose = transpose,
           .relu = relu,
           .y = y.data(),
           .ldy = out});
  return y;
}

template <class T>
std::vector<double> naive_cvmm(const TestRoute& route, const Operand<T>& x, const std::vector<T>& weight, int64_t out,
                               bool transpose, bool relu) {
  std::vector<double> y;
  for (int64_t r = 0; r < route.pairs(); ++r) {
    const int64_t e = TestRoute::at(route.expert, TestRoute::at(route.order, r));
    for (int64_t j = 0; j < out; ++j) {
      double sum = 0;
      for (int64_t i = 0; i < x.width; ++i) {
        const int64_t element = transpose ? (e * out + j) * x.width + i : (e * x.width + i) * out + j;
        sum += x.at(route, r, i) * static_cast<double>(weight[static_cast<size_t>(element)]);
      }
      y.push_back(relu ? std::max(sum, 0.0) : sum);
    }
  }
  return y;
}

/// tokens, group, experts, in, out.
struct Size {
  int64_t tokens, group, experts, in, out;
};
const std::vector<Size> kSizes = {{1, 1, 1, 1, 1},     {3, 2, 5, 5, 20},
                                  {40, 3, 7, 20, 82},  {9, 4, 4, 82, 5},  // every token takes every expert
                                  {5, 2, 50, 33, 412},                    // most experts without a pair
                                  {300, 2, 3, 20, 7}};                    // several pieces an expert

/// All pairs at one expert in the middle: the others have none.
TestRoute one_expert_has_all(int64_t pairs) {
  return {std::vector<int32_t>(static_cast<size_t>(pairs), 2), 5};
}

template <class T>
void check_cvmm(const TestRoute& route, int64_t group, int64_t in, int64_t out) {
  const std::vector<T> weight = random_values<T>(route.experts() * in * out, 3);
  for (int64_t divisor : {int64_t{0}, group}) {
    for (int flags = 0; flags < 8; ++flags) {
      const bool gated = (flags & 1) != 0, transpose = (flags & 2) != 0, relu = (flags & 4) != 0;
      INFO("in ", in, " out ", out, " divisor ", divisor, " gated ", gated, " transpose ", transpose, " relu ", relu);
      const Operand<T> x(route, in, divisor, gated, 1);
      const std::vector<T> y = run_cvmm(route, x, weight, out, transpose, relu);
      CHECK(relative_error(y, naive_cvmm(route, x, weight, out, transpose, relu)) <= sum_tolerance<T>(in));
    }
  }
}

/// dW for a list of (route, a, b); `before` is what dW holds at first.
template <class T>
struct Part {
  TestRoute route;
  Operand<T> a, b;
};
template <class T>
std::vector<T> run_weight_gradient(const std::vector<Part<T>>& parts, int64_t experts, int64_t in, int64_t out,
                                   Mode mode, std::vector<T> dweight) {
  std::vector<CvmmWeightPart<T>> raw;
  for (const Part<T>& p : parts) raw.push_back({p.route.raw(), p.a.raw(), p.b.raw()});
  Workspace workspace(cvmm_weight_gradient_workspace_bytes<T>(Cpu{}, in, out));
  cvmm_weight_gradient<T>(
      Cpu{}, workspace,
      {.experts = experts, .in = in, .out = out, .parts = raw, .dweight = dweight.data(), .mode = mode});
  return dweight;
}

template <class T>
std::vector<double> naive_weight_gradient(const std::vector<Part<T>>& parts, int64_t experts, int64_t in, int64_t out) {
  std::vector<double> dweight(static_cast<size_t>(experts * in * out), 0.0);
  for (const Part<T>& p : parts) {
    for (int64_t r = 0; r < p.route.pairs(); ++r) {
      const int64_t e = TestRoute::at(p.route.expert, TestRoute::at(p.route.order, r));
      for (int64_t i = 0; i < in; ++i) {
        for (int64_t j = 0; j < out; ++j) {
          dweight[static_cast<size_t>((e * in + i) * out + j)] += p.a.at(p.route, r, i) * p.b.at(p.route, r, j);
        }
      }
    }
  }
  return dweight;
}

template <class T>
std::vector<Part<T>> random_parts(const Size& s, int64_t count, bool gated) {
  std::vector<Part<T>> parts;
  for (int64_t i = 0; i < count; ++i) {
    const auto stream = static_cast<uint64_t>(10 * i);
    TestRoute route = random_route(s.tokens, s.group, s.experts, stream);
    Operand<T> a(route, s.in, i % 2 == 0 ? s.group : 0, false, stream + 1),
        b(route, s.out, i % 2 == 0 ? 0 : s.group, gated, stream + 2);
    parts.push_back({std::move(route), std::move(a), std::move(b)});
  }
  return parts;
}

}  // namespace

TEST_CASE_TEMPLATE("cvmm by hand", T, float, double) {
  // Two tokens, two pairs each: token 0 chose experts 2 and 0, token 1 experts 0 and 2; expert 1 has none.
  const TestRoute route({2, 0, 0, 2}, 3);
  CHECK(route.order == std::vector<int32_t>{1, 2, 0, 3});
  const std::vector<T> x = {1, 2, 3, -4}, gate = {10, 2, 1, 100};
  const std::vector<T> weight = {1, 2, 50, 60, 3, -1};  // (3, 2, 1)
  std::vector<T> y = unset<T>(4);
  Workspace workspace(cvmm_workspace_bytes<T>(Cpu{}, 2, 1));
  Cvmm<T> c{.route = route.raw(),
            .in = 2,
            .out = 1,
            .x = {x.data(), 2, 2, nullptr},
            .weight = weight.data(),
            .y = y.data(),
            .ldy = 1};
  cvmm(Cpu{}, workspace, c);
  CHECK(y == std::vector<T>{5, -5, 1, 13});
  c.x.gate = gate.data(), c.relu = true;
  cvmm(Cpu{}, workspace, c);
  CHECK(y == std::vector<T>{10, 0, 10, 1300});

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

  std::vector<T> da = {3, 4, 5, 6};
  cvmm_hidden_backward<T>(
      Cpu{}, Launch{},
      {.route = route.raw(), .width = 1, .h = y.data(), .gate = gate.data(), .da = da.data(), .dgate = dgate.data()});
  CHECK(dgate == std::vector<T>{5 * 10, 3 * 10, 4 * 0, 6 * 1300});
  CHECK(da == std::vector<T>{2 * 3, 0, 10 * 5, 100 * 6});
}

TEST_CASE_TEMPLATE("cvmm_weight_gradient by hand", T, float, double) {
  const TestRoute route({2, 0, 0, 2}, 3);
  const std::vector<T> a = {1, 2, 3, -4};       // gathered: two tokens
  const std::vector<T> b = {1, 10, 100, 1000};  // sorted
  const std::vector<CvmmWeightPart<T>> parts = {{route.raw(), {a.data(), 2, 2, nullptr}, {b.data(), 1, 0, nullptr}}};
  std::vector<T> dweight = unset<T>(6);
  Workspace workspace(cvmm_weight_gradient_workspace_bytes<T>(Cpu{}, 2, 1));
  cvmm_weight_gradient<T>(Cpu{}, workspace,
                          {.experts = 3, .in = 2, .out = 1, .parts = parts, .dweight = dweight.data()});
  CHECK(dweight == std::vector<T>{1 * 1 + 3 * 10, 2 * 1 - 4 * 10, 0, 0, 1 * 100 + 3 * 1000, 2 * 100 - 4 * 1000});
}

TEST_CASE_TEMPLATE("cvmm against plain loops, all ways to give its operands", T, float, double) {
  for (const Size& s : kSizes) check_cvmm<T>(random_route(s.tokens, s.group, s.experts, 5), s.group, s.in, s.out);
  check_cvmm<T>(one_expert_has_all(1), 1, 20, 5);
  check_cvmm<T>(one_expert_has_all(256), 2, 20, 5);
  check_cvmm<T>(one_expert_has_all(257), 1, 5, 20);
  check_cvmm<T>(TestRoute({}, 4), 1, 5, 20);
}

TEST_CASE_TEMPLATE("cvmm leaves the padding of a pitched output alone", T, float, double) {
  const TestRoute route = random_route(6, 2, 3, 5);
  const Operand<T> x(route, 5, 2, false, 1);
  const std::vector<T> weight = random_values<T>(3 * 5 * 4, 3);
  std::vector<T> y(static_cast<size_t>(12 * 7), T(9));
  Workspace workspace(cvmm_workspace_bytes<T>(Cpu{}, 5, 4));
  cvmm<T>(Cpu{}, workspace,
          {.route = route.raw(),
           .in = 5,
           .out = 4,
           .x = x.raw(),
           .weight = weight.data(),
           .relu = true,
           .y = y.data(),
           .ldy = 7});
  std::vector<T> dense;
  for (int64_t r = 0; r < 12; ++r) {
    dense.insert(dense.end(), y.begin() + r * 7, y.begin() + r * 7 + 4);
    CHECK(std::all_of(y.begin() + r * 7 + 4, y.begin() + (r + 1) * 7, [](T v) { return v == T(9); }));
  }
  CHECK(relative_error(dense, naive_cvmm(route, x, weight, 4, false, true)) <= sum_tolerance<T>(5));
}

TEST_CASE_TEMPLATE("cvmm_weight_gradient against plain loops: parts, gates, modes", T, float, double) {
  for (const Size& s : kSizes) {
    for (int64_t count : {0, 1, 3}) {
      for (bool gated : {false, true}) {
        INFO("experts ", s.experts, " in ", s.in, " out ", s.out, " parts ", count, " gated ", gated);
        const std::vector<Part<T>> parts = random_parts<T>(s, count, gated);
        const std::vector<double> expected = naive_weight_gradient(parts, s.experts, s.in, s.out);
        const int64_t size = s.experts * s.in * s.out;
        const double tolerance = sum_tolerance<T>(count * s.tokens * s.group);
        CHECK(relative_error(run_weight_gradient(parts, s.experts, s.in, s.out, Mode::overwrite, unset<T>(size)),
                             expected) <= tolerance);
        const std::vector<T> before = random_values<T>(size, 99);
        CHECK(relative_error(run_weight_gradient(parts, s.experts, s.in, s.out, Mode::accumulate, before),
                             sum_of(before, expected)) <= tolerance);
      }
    }
  }
}

TEST_CASE_TEMPLATE("cvmm_weight_gradient fills its buffers over parts of any length", T, float, double) {
  std::vector<Part<T>> parts;
  for (int64_t pairs : {100, 0, 155, 1, 256, 513, 3}) {
    TestRoute route = one_expert_has_all(pairs);
    Operand<T> a(route, 3, 1, false, 1), b(route, 4, 0, true, static_cast<uint64_t>(2 + pairs));
    parts.push_back({std::move(route), std::move(a), std::move(b)});
  }
  const std::vector<T> dweight = run_weight_gradient(parts, 5, 3, 4, Mode::overwrite, unset<T>(60));
  CHECK(relative_error(dweight, naive_weight_gradient(parts, 5, 3, 4)) <= sum_tolerance<T>(1028));
  CHECK(std::count(dweight.begin(), dweight.end(), T(0)) == 48);  // four experts without pairs
}

TEST_CASE_TEMPLATE("cvmm row kernels against plain loops", T, float, double) {
  for (const Size& s : kSizes) {
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
  std::vector<double> expected_da(da.size()), expected_dgate(gate.size(), 0.0);
  for (int64_t r = 0; r < route.pairs(); ++r) {
    const auto pair = static_cast<size_t>(TestRoute::at(route.order, r));
    for (auto i = static_cast<size_t>(r * kWidth); i < static_cast<size_t>((r + 1) * kWidth); ++i) {
      expected_dgate[pair] += static_cast<double>(da[i]) * static_cast<double>(h[i]);
      expected_da[i] = h[i] > 0 ? static_cast<double>(gate[pair]) * static_cast<double>(da[i]) : 0;
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
  CHECK(relative_error(dgate, expected_dgate) <= sum_tolerance<T>(kWidth));
}

TEST_CASE_TEMPLATE("cvmm has the same bits on any number of threads", T, float, double) {
  const Size s{300, 4, 9, 41, 64};
  const std::vector<Part<T>> parts = random_parts<T>(s, 3, true);
  const TestRoute& route = parts[0].route;
  const std::vector<T> weight = random_values<T>(s.experts * s.in * s.out, 3);
  const Operand<T> x(route, s.in, s.group, true, 1);
  const std::vector<T> gate = random_values<T>(route.pairs(), 4);
  same_on_any_threads([&] {
    const std::vector<T> y = run_cvmm(route, x, weight, s.out, false, true);
    std::vector<T> out = unset<T>(s.tokens * s.out), dgate = unset<T>(route.pairs()),
                   da = random_values<T>(route.pairs() * s.out, 5);
    cvmm_combine<T>(Cpu{}, Launch{},
                    {.route = route.raw(),
                     .group = s.group,
                     .width = s.out,
                     .y = y.data(),
                     .ldy = s.out,
                     .gate = gate.data(),
                     .out = out.data(),
                     .ldout = s.out});
    cvmm_hidden_backward<T>(Cpu{}, Launch{},
                            {.route = route.raw(),
                             .width = s.out,
                             .h = y.data(),
                             .gate = gate.data(),
                             .da = da.data(),
                             .dgate = dgate.data()});
    return joined(joined(y, out), joined(dgate, da));
  });
  same_on_any_threads([&] {
    return run_weight_gradient(parts, s.experts, s.in, s.out, Mode::overwrite, unset<T>(s.experts * s.in * s.out));
  });
}

}  // namespace moeut::kernels
