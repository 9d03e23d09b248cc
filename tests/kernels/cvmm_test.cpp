#include "kernels/cvmm.h"

#include "tests/kernels/cvmm_testing.h"

namespace moeut::kernels {

namespace {

using namespace moeut::testing;

template <class T>
std::vector<T> run_cvmm(const TestRoute& route, const Operand<T>& x, const std::vector<T>& weight, int64_t out,
                        bool transpose, bool relu) {
  std::vector<T> y = unset<T>(route.pairs() * out);
  Workspace workspace(cvmm_workspace_bytes<T>(Cpu{}, {}, x.width, out));
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
  const CvmmWeightGradient<T> args{
      .experts = experts, .in = in, .out = out, .parts = raw, .dweight = dweight.data(), .mode = mode};
  Workspace workspace(cvmm_weight_gradient_workspace_bytes<T>(Cpu{}, args));
  cvmm_weight_gradient<T>(Cpu{}, workspace, args);
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
std::vector<Part<T>> random_parts(const CvmmSize& s, int64_t count, bool gated) {
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
  Workspace workspace(cvmm_workspace_bytes<T>(Cpu{}, {}, 2, 1));
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
}

TEST_CASE_TEMPLATE("cvmm_weight_gradient by hand", T, float, double) {
  const TestRoute route({2, 0, 0, 2}, 3);
  const std::vector<T> a = {1, 2, 3, -4};       // gathered: two tokens
  const std::vector<T> b = {1, 10, 100, 1000};  // sorted
  const std::vector<CvmmWeightPart<T>> parts = {{route.raw(), {a.data(), 2, 2, nullptr}, {b.data(), 1, 0, nullptr}}};
  std::vector<T> dweight = unset<T>(6);
  const CvmmWeightGradient<T> args{.experts = 3, .in = 2, .out = 1, .parts = parts, .dweight = dweight.data()};
  Workspace workspace(cvmm_weight_gradient_workspace_bytes<T>(Cpu{}, args));
  cvmm_weight_gradient<T>(Cpu{}, workspace, args);
  CHECK(dweight == std::vector<T>{1 * 1 + 3 * 10, 2 * 1 - 4 * 10, 0, 0, 1 * 100 + 3 * 1000, 2 * 100 - 4 * 1000});
}

TEST_CASE_TEMPLATE("cvmm against plain loops, all ways to give its operands", T, float, double) {
  for (const CvmmSize& s : kCvmmSizes)
    check_cvmm<T>(random_route(s.tokens, s.group, s.experts, 5), s.group, s.in, s.out);
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
  Workspace workspace(cvmm_workspace_bytes<T>(Cpu{}, {}, 5, 4));
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
  for (const CvmmSize& s : kCvmmSizes) {
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

TEST_CASE_TEMPLATE("cvmm has the same bits on any number of threads", T, float, double) {
  const CvmmSize s{300, 4, 9, 41, 64};
  const std::vector<Part<T>> parts = random_parts<T>(s, 3, true);
  const TestRoute& route = parts[0].route;
  const std::vector<T> weight = random_values<T>(s.experts * s.in * s.out, 3);
  const Operand<T> x(route, s.in, s.group, true, 1);
  same_on_any_threads([&] { return run_cvmm(route, x, weight, s.out, false, true); });
  same_on_any_threads([&] {
    return run_weight_gradient(parts, s.experts, s.in, s.out, Mode::overwrite, unset<T>(s.experts * s.in * s.out));
  });
}

}  // namespace moeut::kernels
