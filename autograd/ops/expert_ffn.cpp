#include "autograd/ops/expert_ffn.h"

#include "autograd/ops/experts.h"

namespace moeut::ops {

namespace {

struct Saved {
  Routing routing;
  Tensor x, keys, values, gate, hidden;
};

void check(const Variable& x, const Variable& keys, const Variable& values, const Routing& r) {
  const Shape &k = keys.shape(), &v = values.shape();
  const bool fits =
      k.rank() == 3 && v.rank() == 3 && k[0] == v[0] && k[1] == v[2] && k[2] == v[1] && x.shape().row_size() == k[1];
  require<ShapeError>(fits, "expert_ffn: x {}, keys {} and values {} do not fit", x.shape().str(), k.str("E D S"),
                      v.str("E S D"));
  require<ShapeError>(r.rows() == x.shape().rows() && r.experts() == k[0],
                      "expert_ffn: the routing of {} rows to {} experts does not fit x {} and keys {}", r.rows(),
                      r.experts(), x.shape().str(), k.str("E D S"));
  require_same_kind("expert_ffn", {&x.value(), &keys.value(), &values.value()});
  require_wide("expert_ffn", "gates", r.gate.value(), x.dtype());
}

/// In place da becomes du, and hidden becomes gate·hidden; and the gates' gradient is contributed.
void hidden_backward(const Saved& s, const Tensor& da, InputGradients& in) {
  Tensor dgate = Tensor::empty(s.gate.shape(), s.gate.dtype(), da.device());
  on_device_number(da.device(), da.dtype(), [&]<class T>(auto tag) {
    kernels::cvmm_hidden_backward<T>(tag, Launch{},
                                     {.route = raw(s.routing),
                                      .width = da.shape()[1],
                                      .h = s.hidden.data<T>(),
                                      .gate = s.gate.data<Wide<T>>(),
                                      .da = da.data<T>(),
                                      .dgate = dgate.data<Wide<T>>()});
  });
  if (in.wanted(3)) in.contribute(3, dgate);
}

// With dO = dy gathered per pair: dA = dO·valuesᵀ, dgate = ⟨dA, h⟩, dU = gate·dA·(h > 0),
// dvalues = (gate·h)ᵀ·dO, dkeys = xᵀ·dU, dx = Σ_k dU·keysᵀ.
void backward(const Saved& s, const Tensor& dy_wide, InputGradients& in) {
  const int64_t k = s.routing.k;
  const Tensor dy = as_type(dy_wide, s.x.dtype());
  const Tensor du = cvmm(s.routing, {dy, k}, s.values, true);
  hidden_backward(s, du, in);
  if (in.wanted(2)) contribute_weight_gradient(s.routing, {s.hidden}, {dy, k}, in, 2);
  if (in.wanted(1)) contribute_weight_gradient(s.routing, {s.x, k}, {du}, in, 1);
  if (in.wanted(0)) {
    const Tensor dx_pairs = cvmm(s.routing, {du}, s.keys, true);
    const GradientTarget dx = in.target(0);
    combine(s.routing, k, dx_pairs, {}, dx.tensor, dx.mode);
  }
}

}  // namespace

Variable expert_ffn(Tape& tape, const Variable& x, const Variable& keys, const Variable& values,
                    const Routing& routing) {
  check(x, keys, values, routing);
  const Tensor hidden = cvmm(routing, {x.value(), routing.k}, keys.value(), false, true);
  const Tensor y_pairs = cvmm(routing, {hidden}, values.value());
  Tensor y = Tensor::empty(x.shape(), wide_of(x.dtype()), x.device());
  combine(routing, routing.k, y_pairs, routing.gate.value(), y);
  Saved s{routing, x.value(), keys.value(), values.value(), routing.gate.value(), hidden};
  s.routing.gate = Variable();
  return tape.record(y, {x, keys, values, routing.gate},
                     [s](const Tensor& dy, InputGradients& in) { backward(s, dy, in); });
}

}  // namespace moeut::ops
