#include "autograd/ops/head_gate.h"

#include "autograd/op.h"
#include "kernels/elementwise.h"

namespace moeut::ops {

Variable head_gate(Tape& tape, const Variable& x, const Variable& logit) {
  const int64_t rows = x.shape().rows(), heads = logit.shape().row_size();
  require<ShapeError>(logit.shape().rows() == rows && heads > 0 && x.shape().row_size() % heads == 0,
                      "head_gate: logits {} do not fit x {}", logit.shape().str(), x.shape().str());
  require_wide("head_gate", "logits", logit.value(), x.dtype());
  const int64_t head_dim = x.shape().row_size() / heads;
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  on_device_number(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::head_gate_forward<T>(tag, Launch{}, rows, heads, head_dim, x.value().data<T>(),
                                  logit.value().data<Wide<T>>(), y.data<T>());
  });
  return tape.record(y, {x, logit}, [=, xv = x.value(), lv = logit.value()](const Tensor& dy, InputGradients& in) {
    GradientTarget dx, dl;
    if (in.wanted(0)) dx = in.target(0);
    if (in.wanted(1)) dl = in.target(1);
    on_device_number(dy.device(), dy.dtype(), [&]<class T>(auto tag) {
      kernels::head_gate_backward<T>(tag, Launch{},
                                     {.rows = rows,
                                      .heads = heads,
                                      .head_dim = head_dim,
                                      .x = xv.data<T>(),
                                      .logit = lv.data<Wide<T>>(),
                                      .dy = dy.data<T>(),
                                      .dx = dx.tensor.defined() ? dx.tensor.data<T>() : nullptr,
                                      .dx_mode = dx.mode,
                                      .dlogit = dl.tensor.defined() ? dl.tensor.data<Wide<T>>() : nullptr,
                                      .dlogit_mode = dl.mode});
    });
  });
}

}  // namespace moeut::ops
