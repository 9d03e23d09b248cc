// Routes and row operands for the CVMM tests.
#pragma once

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/cvmm.h"
#include "tests/kernels/kernel_testing.h"

namespace moeut::testing {

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
  kernels::Route raw() const { return {pairs(), experts(), order.data(), place.data(), expert.data(), offsets.data()}; }
};

/// `group` experts for each of `tokens` rows, each row's all different; some experts may stay without a pair.
inline TestRoute random_route(int64_t tokens, int64_t group, int64_t experts, uint64_t stream) {
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
  kernels::PairRows<T> raw() const { return {data.data(), width + 2, divisor, gate.empty() ? nullptr : gate.data()}; }

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

/// tokens, group, experts, in, out.
struct CvmmSize {
  int64_t tokens, group, experts, in, out;
};
inline const std::vector<CvmmSize> kCvmmSizes = {{1, 1, 1, 1, 1},     {3, 2, 5, 5, 20}, {40, 3, 7, 20, 82},
                                                 {9, 4, 4, 82, 5},     // every token takes every expert
                                                 {5, 2, 50, 33, 412},  // most experts without a pair
                                                 {300, 2, 3, 20, 7}};  // several pieces an expert

}  // namespace moeut::testing
