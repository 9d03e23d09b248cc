#include "autograd/ops/experts.h"

namespace moeut::ops {

namespace {

/// The parts of one weight's gradient, gathered over the repeats of a shared layer.
class WeightGradient : public DeferredGradient {
 public:
  void add(const Routing& routing, const PairOperand& a, const PairOperand& b) {
    parts_.push_back({routing, a, b});
    parts_.back().routing.gate = Variable();  // only the order is needed; do not keep the graph's gate alive
  }

  void run(const GradientTarget& target) override {
    const Shape& shape = target.tensor.shape();
    const Device device = target.tensor.device();
    on_number(parts_.front().a.rows.dtype(), [&]<class T>() {
      std::vector<kernels::CvmmWeightPart<T>> parts;
      for (const Part& p : parts_) parts.push_back({raw(p.routing), p.a.raw<T>(), p.b.raw<T>()});
      const kernels::CvmmWeightGradient<T> args{.experts = shape[0],
                                                .in = shape[1],
                                                .out = shape[2],
                                                .parts = parts,
                                                .dweight = target.tensor.data<Wide<T>>(),
                                                .mode = target.mode};
      const Workspace workspace(device, workspace_bytes(device, [&](auto tag) {
                                  return kernels::cvmm_weight_gradient_workspace_bytes<T>(tag, args);
                                }));
      on_device(device, [&](auto tag) { kernels::cvmm_weight_gradient<T>(tag, workspace, args); });
    });
  }

 private:
  struct Part {
    Routing routing;
    PairOperand a, b;
  };
  std::vector<Part> parts_;
};

}  // namespace

kernels::Route raw(const Routing& r) {
  return {.pairs = r.pairs(),
          .experts = r.experts(),
          .order = r.order.data<int32_t>(),
          .place = r.place.data<int32_t>(),
          .expert = r.expert.data<int32_t>(),
          .offsets = r.offsets.data<int32_t>()};
}

Tensor cvmm(const Routing& routing, const PairOperand& x, const Tensor& weight, bool transpose, bool relu) {
  const int64_t in = weight.shape()[transpose ? 2 : 1], out = weight.shape()[transpose ? 1 : 2];
  const Device device = weight.device();
  Tensor y = Tensor::empty({routing.pairs(), out}, weight.dtype(), device);
  on_number(weight.dtype(), [&]<class T>() {
    Workspace workspace(device, workspace_bytes(device, [&](auto tag) {
                          return kernels::cvmm_workspace_bytes<T>(tag, raw(routing), in, out);
                        }));
    on_device(device, [&](auto tag) {
      kernels::cvmm<T>(tag, workspace,
                       {.route = raw(routing),
                        .in = in,
                        .out = out,
                        .x = x.raw<T>(),
                        .weight = weight.data<T>(),
                        .transpose = transpose,
                        .relu = relu,
                        .y = y.data<T>(),
                        .ldy = out});
    });
  });
  return y;
}

void combine(const Routing& routing, int64_t group, const Tensor& y, const Tensor& gate, const Tensor& out, Mode mode) {
  const int64_t width = y.shape()[1];
  on_device_number(y.device(), y.dtype(), [&]<class T>(auto tag) {
    on_output<T>(out.dtype(), [&]<class Out>() {
      kernels::cvmm_combine<T, Out>(tag, Launch{},
                                    {.route = raw(routing),
                                     .group = group,
                                     .width = width,
                                     .y = y.data<T>(),
                                     .ldy = width,
                                     .gate = gate.defined() ? gate.data<Wide<T>>() : nullptr,
                                     .out = out.data<Out>(),
                                     .ldout = width,
                                     .mode = mode});
    });
  });
}

void contribute_gate_gradient(const Routing& routing, const Tensor& y, const PairOperand& x, InputGradients& in,
                              size_t gate_input) {
  Tensor dgate = Tensor::empty(routing.expert.shape(), wide_of(y.dtype()), y.device());
  on_device_number(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::cvmm_gate_gradient<T>(tag, Launch{},
                                   {.route = raw(routing),
                                    .width = y.shape()[1],
                                    .y = y.data<T>(),
                                    .ldy = y.shape()[1],
                                    .x = x.raw<T>(),
                                    .dgate = dgate.data<Wide<T>>()});
  });
  in.contribute(gate_input, dgate);
}

void contribute_weight_gradient(const Routing& routing, const PairOperand& a, const PairOperand& b, InputGradients& in,
                                size_t weight_input) {
  if (in.deferrable(weight_input)) {
    in.deferred<WeightGradient>(weight_input).add(routing, a, b);
    return;
  }
  WeightGradient now;
  now.add(routing, a, b);
  // Gradients of experts are computed wide.
  const GradientTarget target = in.target(weight_input);
  if (target.tensor.dtype() == wide_of(target.tensor.dtype())) return now.run(target);
  const Tensor wide = Tensor::empty(target.tensor.shape(), wide_of(target.tensor.dtype()), target.tensor.device());
  now.run({wide, Mode::overwrite});
  cast_into(wide, target.tensor, target.mode);
}

}  // namespace moeut::ops
