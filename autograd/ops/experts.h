// What the expert ops share: operands of CVMM as tensors, and weight gradients that wait for the last repeat.
#pragma once

#include <vector>

#include "autograd/op.h"
#include "autograd/ops/route.h"
#include "kernels/cvmm.h"

namespace moeut::ops {

/// A row operand of CVMM (kernels/cvmm.h): sorted rows (divisor 0) or gathered ones, times a gate if there is one.
struct PairOperand {
  Tensor rows;
  int64_t divisor = 0;
  Tensor gate;

  template <class T>
  kernels::PairRows<T> raw() const {
    return {rows.data<T>(), rows.row_stride(), divisor, gate.defined() ? gate.data<Wide<T>>() : nullptr};
  }
};

kernels::Route raw(const Routing& routing);

/// y = x · W[e] (or its transpose) for every pair, sorted: (pairs, out).
Tensor cvmm(const Routing& routing, const PairOperand& x, const Tensor& weight, bool transpose = false,
            bool relu = false);

/// out (mode) = Σ over groups of `group` pairs of gate · y; gate undefined: 1.
void combine(const Routing& routing, int64_t group, const Tensor& y, const Tensor& gate, const Tensor& out,
             Mode mode = Mode::overwrite);

/// dgate[s] = ⟨y[place[s]], x(place[s])⟩, by contribution to the gate's gradient.
void contribute_gate_gradient(const Routing& routing, const Tensor& y, const PairOperand& x, InputGradients& in,
                              size_t gate_input);

/// dW[e] += Σ a(r)ᵀ b(r): at once for a plain value, at the last use for a parameter.
void contribute_weight_gradient(const Routing& routing, const PairOperand& a, const PairOperand& b, InputGradients& in,
                                size_t weight_input);

}  // namespace moeut::ops
