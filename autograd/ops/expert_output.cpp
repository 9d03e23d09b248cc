#include "autograd/ops/expert_output.h"

#include "autograd/ops/experts.h"

namespace moeut::ops {

namespace {

struct Saved {
  Routing routing;
  int64_t heads;
  Tensor x, weight, gate;  ///< x as (N·H, P)
};

// With dO = dy gathered per pair: dA = dO·Wᵀ, dgate = ⟨dA, x⟩, dx = Σ over the Ka pairs of a (token, head) of gate·dA,
// dW = xᵀ·(gate·dO).
void backward(const Saved& s, const Tensor& dy_wide, InputGradients& in) {
  const Tensor dy = as_type(dy_wide, s.x.dtype());
  const int64_t k = s.routing.k, pairs_per_token = s.heads * k;
  if (in.wanted(1)) contribute_weight_gradient(s.routing, {s.x, k, s.gate}, {dy, pairs_per_token}, in, 1);
  if (!in.wanted(0) && !in.wanted(2)) return;
  const Tensor da = cvmm(s.routing, {dy, pairs_per_token}, s.weight, true);
  if (in.wanted(2)) contribute_gate_gradient(s.routing, da, {s.x, k}, in, 2);
  if (in.wanted(0)) {
    const GradientTarget dx = in.target(0);
    combine(s.routing, k, da, s.gate, dx.tensor.reshape(s.x.shape()), dx.mode);
  }
}

}  // namespace

Variable expert_output(Tape& tape, const Variable& x, const Variable& weight, int64_t heads, const Routing& routing) {
  const Shape &xs = x.shape(), &ws = weight.shape();
  require<ShapeError>(xs.rank() == 3 && ws.rank() == 3 && xs[2] == heads * ws[1] && routing.experts() == ws[0] &&
                          routing.rows() == xs.rows() * heads,
                      "expert_output: x {}, weight {} and a routing of {} rows to {} experts do not fit",
                      xs.str("B T HP"), ws.str("HE P D"), routing.rows(), routing.experts());
  require_same_kind("expert_output", {&x.value(), &weight.value()});
  require_wide("expert_output", "gates", routing.gate.value(), x.dtype());
  Saved s{routing, heads, x.value().reshape({routing.rows(), ws[1]}), weight.value(), routing.gate.value()};
  s.routing.gate = Variable();
  const Tensor y_pairs = cvmm(routing, {s.x, routing.k}, weight.value());
  Tensor y = Tensor::empty({xs[0], xs[1], ws[2]}, wide_of(x.dtype()), x.device());
  combine(routing, heads * routing.k, y_pairs, routing.gate.value(), y);
  return tape.record(y, {x, weight, routing.gate}, [s](const Tensor& dy, InputGradients& in) { backward(s, dy, in); });
}

}  // namespace moeut::ops
