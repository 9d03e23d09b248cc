#include "autograd/ops/layer_norm.h"

#include "autograd/op.h"
#include "kernels/layer_norm.h"

namespace moeut::ops {

namespace {

struct Saved {
  Tensor x, weight, mean, rstd;
};

template <class T>
void set(T*& pointer, Mode& mode, const GradientTarget& target) {
  pointer = target.tensor.data<T>();
  mode = target.mode;
}

void backward(const Saved& s, const Tensor& dy, InputGradients& in) {
  const int64_t rows = s.x.shape().rows(), n = s.x.shape().row_size();
  const Device device = dy.device();
  std::vector<GradientTarget> targets(3);
  for (size_t i = 0; i < 3; ++i) {
    if (in.wanted(i)) targets[i] = in.target(i);
  }
  on_number(dy.dtype(), [&]<class T>() {
    kernels::LayerNormBackward<T> args{.rows = rows,
                                       .n = n,
                                       .dy = dy.data<T>(),
                                       .lddy = n,
                                       .x = s.x.data<Wide<T>>(),
                                       .ldx = n,
                                       .weight = s.weight.data<Wide<T>>(),
                                       .mean = s.mean.data<Wide<T>>(),
                                       .rstd = s.rstd.data<Wide<T>>(),
                                       .lddx = n};
    if (targets[0].tensor.defined()) set(args.dx, args.dx_mode, targets[0]);
    if (targets[1].tensor.defined()) set(args.dweight, args.dweight_mode, targets[1]);
    if (targets[2].tensor.defined()) set(args.dbias, args.dbias_mode, targets[2]);
    Workspace workspace(device, workspace_bytes(device, [&](auto tag) {
                          return kernels::layer_norm_backward_workspace_bytes<T>(tag, rows, n);
                        }));
    on_device(device, [&](auto tag) { kernels::layer_norm_backward<T>(tag, workspace, args); });
  });
}

}  // namespace

Variable layer_norm(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias,
                    const LayerNormOptions& options) {
  const int64_t rows = x.shape().rows(), n = x.shape().row_size();
  require<ShapeError>(weight.shape() == Shape{n} && bias.shape() == Shape{n},
                      "layer_norm: weight {} and bias {} do not fit x {}", weight.shape().str(), bias.shape().str(),
                      x.shape().str());
  require_same_kind("layer_norm", {&x.value(), &weight.value(), &bias.value()});
  const DType out = options.out.value_or(x.dtype());
  require_wide("layer_norm", "x", x.value(), out);
  Tensor y = Tensor::empty(x.shape(), out, x.device());
  const Saved saved{x.value(), weight.value(), Tensor::empty({rows}, x.dtype(), x.device()),
                    Tensor::empty({rows}, x.dtype(), x.device())};
  on_device_number(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::layer_norm_forward<T>(tag, Launch{},
                                   {.rows = rows,
                                    .n = n,
                                    .x = x.value().data<Wide<T>>(),
                                    .ldx = n,
                                    .weight = weight.value().data<Wide<T>>(),
                                    .bias = bias.value().data<Wide<T>>(),
                                    .y = y.data<T>(),
                                    .ldy = n,
                                    .mean = saved.mean.data<Wide<T>>(),
                                    .rstd = saved.rstd.data<Wide<T>>(),
                                    .eps = options.eps});
  });
  return tape.record(y, {x, weight, bias}, [saved](const Tensor& dy, InputGradients& in) { backward(saved, dy, in); });
}

}  // namespace moeut::ops
