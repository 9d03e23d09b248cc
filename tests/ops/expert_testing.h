// What the tests of the expert ops share: routings, and the naive products they are compared with.
#pragma once

#include "autograd/ops/route.h"
#include "tests/ops/op_testing.h"

namespace moeut::testing {

/// y += gate · (x · W[e]), W[e] of (in, out); x, y: one row.
inline void add_expert_product(const double* x, const Tensor& weight, int64_t e, double gate, double* y) {
  const int64_t in = weight.shape()[1], out = weight.shape()[2];
  const double* w = weight.data<double>() + e * in * out;
  for (int64_t i = 0; i < in; ++i) {
    for (int64_t j = 0; j < out; ++j) y[j] += gate * x[i] * w[i * out + j];
  }
}

/// Expert and gate of pair s.
struct Pair {
  int64_t expert;
  double gate;
};
inline Pair pair_of(const ops::Routing& r, int64_t s) {
  return {r.expert.data<int32_t>()[s], r.gate.value().data<double>()[s]};
}

/// A routing of one head: the experts as given, the gates sigmoid(0) = 1/2 throughout.
inline ops::Routing half_gated(Tape& tape, const std::vector<int32_t>& experts, const Shape& logits, int64_t heads,
                               int64_t k) {
  const Tensor forced = Tensor::from(experts, {static_cast<int64_t>(experts.size()) / k, k});
  return ops::route(tape, Variable(Tensor::zeros(logits, DType::f64)), {.heads = heads, .k = k, .forced = forced});
}

}  // namespace moeut::testing
