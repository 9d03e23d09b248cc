#include "trainer/benchmark/kernel_cost.h"

#include <cmath>

namespace moeut {
namespace {

/// The sizes as real numbers, under their letters.
struct Letters {
  double w, wide;
  double n, r, d, e, s, h, p, t, v;

  explicit Letters(const KernelShape& shape)
      : w(static_cast<double>(size_of(shape.compute))),
        wide(static_cast<double>(size_of(shape.wide()))),
        n(static_cast<double>(shape.tokens())),
        r(static_cast<double>(shape.pairs())),
        d(static_cast<double>(shape.model.d_model)),
        e(static_cast<double>(shape.model.ff_n_experts)),
        s(static_cast<double>(shape.model.ff_expert_size)),
        h(static_cast<double>(shape.model.n_heads)),
        p(static_cast<double>(shape.model.head_dim())),
        t(static_cast<double>(shape.time)),
        v(static_cast<double>(shape.model.n_tokens)) {}

  double pair_flops() const { return 2 * r * d * s; }
  double sort_bytes() const { return 4 * (3 * r + e + 1); }
};

}  // namespace

KernelCost cvmm_up_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {l.pair_flops(), l.w * (l.n * l.d + l.e * l.d * l.s + l.r * l.s) + 4 * l.r};
}

KernelCost cvmm_down_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {l.pair_flops(), l.w * (l.r * l.s + l.e * l.s * l.d + l.r * l.d)};
}

KernelCost cvmm_dhidden_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {l.pair_flops(), l.w * (l.n * l.d + l.e * l.s * l.d + 3 * l.r * l.s) + l.wide * 2 * l.r + 4 * l.r};
}

KernelCost cvmm_dx_cost(const KernelShape& shape) {
  return cvmm_down_cost(shape);
}

KernelCost cvmm_dweight_up_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {l.pair_flops(), l.w * (l.n * l.d + l.r * l.s) + l.wide * l.e * l.d * l.s + 4 * l.r};
}

KernelCost cvmm_dweight_down_cost(const KernelShape& shape) {
  return cvmm_dweight_up_cost(shape);
}

KernelCost combine_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {0, l.w * l.r * l.d + l.wide * (l.r + l.n * l.d) + 4 * l.r};
}

KernelCost expert_layer_cost(const KernelShape& shape) {
  const Letters l(shape);
  KernelCost sum{0, l.w * (l.r * l.d + l.n * l.d) + 4 * l.r + l.sort_bytes()};
  for (const auto part : {cvmm_up_cost, cvmm_down_cost, combine_cost, cvmm_dhidden_cost, cvmm_dx_cost,
                          cvmm_dweight_up_cost, cvmm_dweight_down_cost}) {
    const KernelCost cost = part(shape);
    sum.flops += cost.flops;
    sum.bytes += cost.bytes;
  }
  return sum;
}

KernelCost router_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {2 * l.n * l.d * l.e, l.w * (l.n * l.d + l.e * l.d) + l.wide * (l.n * l.e + l.r) + l.sort_bytes()};
}

KernelCost attention_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {2 * l.n * l.h * l.p * (l.t + 1), l.w * 4 * l.n * l.h * l.p + l.wide * l.n * l.h};
}

KernelCost attention_backward_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {5 * l.n * l.h * l.p * (l.t + 1), l.w * 8 * l.n * l.h * l.p + l.wide * l.n * l.h};
}

KernelCost cross_entropy_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {0, l.w * 2 * l.n * l.v + l.wide * 2 * l.n + 4 * l.n};
}

KernelCost layer_norm_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {0, l.wide * (3 * l.n * l.d + 4 * l.n) + l.w * 2 * l.n * l.d};
}

KernelCost residual_norm_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {0, l.wide * (6 * l.n * l.d + 4 * l.n) + l.w * 4 * l.n * l.d};
}

KernelCost head_cost(const KernelShape& shape) {
  const Letters l(shape);
  return {6 * l.n * l.d * l.v, l.w * (2 * l.n * l.d + l.v * l.d) + l.wide * l.v * l.d + 4 * l.n};
}

KernelCost adamw_cost(const KernelShape& shape) {
  const Letters l(shape);
  const auto all = static_cast<double>(shape.model.parameter_count());
  const double vectors = static_cast<double>(shape.model.group_size) * 4 * l.d + 2 * l.d + l.v;
  return {0, l.wide * 8 * all + (shape.compute == shape.wide() ? 0 : l.w * (all - vectors))};
}

KernelCost gemm_cost(const KernelShape& shape) {
  const auto n = static_cast<double>(shape.gemm_size);
  return {2 * std::pow(n, 3), static_cast<double>(size_of(shape.compute)) * 3 * n * n};
}

KernelCost copy_cost(const KernelShape& shape) {
  return {0, 2 * static_cast<double>(shape.copy_bytes)};
}

}  // namespace moeut
