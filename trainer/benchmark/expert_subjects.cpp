// The feed-forward experts and their router.
#include <cmath>
#include <memory>

#include "autograd/op.h"
#include "autograd/ops/expert_ffn.h"
#include "autograd/ops/experts.h"
#include "autograd/ops/linear.h"
#include "trainer/benchmark/kernel_subject.h"
#include "trainer/benchmark/operands.h"

namespace moeut {
namespace {

using ops::PairOperand;
using ops::Routing;

/// Makes the operands of one layer by their names in moeut.md, each from random numbers of its own, so that values have
/// the sizes that they have in training.
struct Operands {
  const KernelShape& shape;
  Device device;
  uint64_t stream;

  const ModelConfig& model() const { return shape.model; }
  double in_scale() const { return 1 / std::sqrt(static_cast<double>(model().d_model)); }

  Tensor make(const Shape& extents, uint64_t operand, double scale) const {
    return random_operand(extents, shape.compute, device, 16 * stream + operand, scale);
  }
  Tensor x() const { return make({shape.batch, shape.time, model().d_model}, 0, 1); }
  Tensor dy() const { return make({shape.tokens(), model().d_model}, 1, 1); }
  Tensor keys() const { return make({model().ff_n_experts, model().d_model, model().ff_expert_size}, 2, in_scale()); }
  Tensor values() const { return make({model().ff_n_experts, model().ff_expert_size, model().d_model}, 3, in_scale()); }
  Tensor hidden() const { return make({shape.pairs(), model().ff_expert_size}, 4, 1); }
  Tensor pairs() const { return make({shape.pairs(), model().d_model}, 5, 1); }
  Routing routing() const { return random_routing(shape, device, 16 * stream + 6); }
};

KernelRun cvmm_up(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  return [x = o.x(), keys = o.keys(), r = o.routing()] { ops::cvmm(r, {x, r.k}, keys, false, true); };
}

KernelRun cvmm_down(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  return [h = o.hidden(), values = o.values(), r = o.routing()] { ops::cvmm(r, {h}, values); };
}

void hidden_backward(const Routing& r, const Tensor& h, const Tensor& da, const Tensor& dgate) {
  on_device_number(da.device(), da.dtype(), [&]<class T>(auto tag) {
    kernels::cvmm_hidden_backward<T>(tag, Launch{},
                                     {.route = ops::raw(r),
                                      .width = da.shape()[1],
                                      .h = h.data<T>(),
                                      .gate = r.gate.value().data<Wide<T>>(),
                                      .da = da.data<T>(),
                                      .dgate = dgate.data<Wide<T>>()});
  });
}

KernelRun cvmm_dhidden(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  const Routing r = o.routing();
  const Tensor dgate = Tensor::empty(r.gate.shape(), r.gate.dtype(), device);
  return [dy = o.dy(), values = o.values(), h = o.hidden(), r, dgate] {
    hidden_backward(r, h, ops::cvmm(r, {dy, r.k}, values, true), dgate);
  };
}

KernelRun cvmm_dx(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  return [du = o.hidden(), keys = o.keys(), r = o.routing()] { ops::cvmm(r, {du}, keys, true); };
}

/// dW (experts, in, out) = Σ aᵀ·b, as a parameter's last use in a backward pass computes it.
KernelRun weight_gradient(const Routing& r, const PairOperand& a, const PairOperand& b, const Shape& shape) {
  const auto weight = std::make_shared<Parameter>();
  weight->value = Tensor::empty(shape, wide_of(a.rows.dtype()), a.rows.device());
  weight->gradient = weight->value;  // nobody reads the value
  const Tensor one = Tensor::zeros({1}, weight->value.dtype(), a.rows.device());
  return [=] {
    Tape tape;
    const auto backward = [&](const Tensor&, InputGradients& in) { ops::contribute_weight_gradient(r, a, b, in, 0); };
    tape.backward_from({{tape.record(one, {tape.parameter(*weight)}, backward), one}});
    weight->clear_gradient();
  };
}

KernelRun cvmm_dweight_up(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  const Routing r = o.routing();
  return weight_gradient(r, {o.x(), r.k}, {o.hidden()},
                         {o.model().ff_n_experts, o.model().d_model, o.model().ff_expert_size});
}

KernelRun cvmm_dweight_down(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  const Routing r = o.routing();
  return weight_gradient(r, {o.hidden()}, {o.dy(), r.k},
                         {o.model().ff_n_experts, o.model().ff_expert_size, o.model().d_model});
}

KernelRun combine(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  const Tensor out = Tensor::empty({shape.tokens(), o.model().d_model}, shape.wide(), device);
  return [y = o.pairs(), r = o.routing(), out] { ops::combine(r, r.k, y, r.gate.value(), out); };
}

/// A weight as the optimizer leaves it: its wide value, and the copy that products read.
Parameter parameter_of(const Tensor& operand) {
  Parameter p;
  p.value = operand;
  if (operand.dtype() == wide_of(operand.dtype())) return p;
  p.narrow = operand;
  p.value = as_type(operand, wide_of(operand.dtype()));
  return p;
}

void sort(const Routing& r) {
  const Device device = r.expert.device();
  const Workspace workspace(device, workspace_bytes(device, [&](auto tag) {
                              return kernels::sort_pairs_workspace_bytes(tag, r.pairs(), r.experts());
                            }));
  on_device(device, [&](auto tag) {
    kernels::sort_pairs(tag, workspace, r.pairs(), r.experts(), r.expert.data<int32_t>(), r.order.data<int32_t>(),
                        r.place.data<int32_t>(), r.offsets.data<int32_t>());
  });
}

/// Sort, forward and backward through the op, as in a training step that uses the layer once.
KernelRun expert_layer(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  struct Layer {
    Parameter keys, values;
  };
  const auto layer = std::make_shared<Layer>(Layer{parameter_of(o.keys()), parameter_of(o.values())});
  const Tensor dy = as_type(o.dy(), shape.wide()).reshape({shape.batch, shape.time, o.model().d_model});
  return [x = o.x(), dy, layer, routing = o.routing()] {
    sort(routing);
    Tape tape;
    Routing r = routing;
    r.gate = tape.leaf(routing.gate.value());
    const Variable y =
        ops::expert_ffn(tape, tape.leaf(x), tape.parameter(layer->keys), tape.parameter(layer->values), r);
    tape.backward_from({{y, dy}});
    layer->keys.clear_gradient();
    layer->values.clear_gradient();
  };
}

KernelRun router(const KernelShape& shape, Device device, uint64_t stream) {
  const Operands o{shape, device, stream};
  const Tensor weight = o.make({o.model().ff_n_experts, o.model().d_model}, 7, o.in_scale());
  return [x = o.x(), weight, k = o.model().ff_k] {
    Tape tape(Tape::Recording::off);
    const Variable logits = ops::linear(tape, Variable(x), Variable(weight), {}, ops::LinearOutput::wide);
    ops::route(tape, logits, {.k = k});
  };
}

}  // namespace

std::vector<KernelSubject> expert_subjects() {
  return {{"expert-layer", expert_layer_cost, expert_layer},
          {"cvmm-up", cvmm_up_cost, cvmm_up},
          {"cvmm-down", cvmm_down_cost, cvmm_down},
          {"cvmm-dhidden", cvmm_dhidden_cost, cvmm_dhidden},
          {"cvmm-dx", cvmm_dx_cost, cvmm_dx},
          {"cvmm-dweight-up", cvmm_dweight_up_cost, cvmm_dweight_up},
          {"cvmm-dweight-down", cvmm_dweight_down_cost, cvmm_dweight_down},
          {"combine", combine_cost, combine},
          {"router", router_cost, router}};
}

}  // namespace moeut
