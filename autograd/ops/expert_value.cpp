#include "autograd/ops/expert_value.h"

#include "autograd/ops/experts.h"

namespace moeut::ops {

namespace {

struct Saved {
  Routing routing;
  int64_t heads;
  Tensor x, weight, gate, v_pairs;
};

// With dv gathered per pair: dgate = ⟨dv, x·W⟩, dW = xᵀ·(gate·dv), dx = Σ over the H·Ka pairs of a token of
// (gate·dv)·Wᵀ.
void backward(const Saved& s, const Tensor& dy, InputGradients& in) {
  const int64_t k = s.routing.k, pairs_per_token = s.heads * k;
  const Tensor dv = dy.reshape({s.routing.rows(), s.v_pairs.shape()[1]});
  if (in.wanted(2)) contribute_gate_gradient(s.routing, s.v_pairs, {dv, k}, in, 2);
  if (in.wanted(1)) contribute_weight_gradient(s.routing, {s.x, pairs_per_token}, {dv, k, s.gate}, in, 1);
  if (in.wanted(0)) {
    const Tensor dx_pairs = cvmm(s.routing, {dv, k, s.gate}, s.weight, true);
    const GradientTarget dx = in.target(0);
    combine(s.routing, pairs_per_token, dx_pairs, {}, dx.tensor, dx.mode);
  }
}

}  // namespace

Variable expert_value(Tape& tape, const Variable& x, const Variable& weight, int64_t heads, const Routing& routing) {
  const Shape &xs = x.shape(), &ws = weight.shape();
  require<ShapeError>(xs.rank() == 3 && ws.rank() == 3 && xs[2] == ws[1] && routing.experts() == ws[0] &&
                          routing.rows() == xs.rows() * heads,
                      "expert_value: x {}, weight {} and a routing of {} rows to {} experts do not fit",
                      xs.str("B T D"), ws.str("HE D P"), routing.rows(), routing.experts());
  require_same_kind("expert_value", {&x.value(), &weight.value()});
  require_wide("expert_value", "gates", routing.gate.value(), x.dtype());
  const int64_t head_dim = ws[2];
  const Tensor v_pairs = cvmm(routing, {x.value(), heads * routing.k}, weight.value());
  Tensor v = Tensor::empty({xs[0], xs[1], heads * head_dim}, x.dtype(), x.device());
  combine(routing, routing.k, v_pairs, routing.gate.value(), v.reshape({routing.rows(), head_dim}));
  Saved s{routing, heads, x.value(), weight.value(), routing.gate.value(), v_pairs};
  s.routing.gate = Variable();
  return tape.record(v, {x, weight, routing.gate}, [s](const Tensor& dy, InputGradients& in) { backward(s, dy, in); });
}

}  // namespace moeut::ops
