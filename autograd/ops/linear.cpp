#include "autograd/ops/linear.h"

#include "autograd/op.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/reduce.h"

namespace moeut::ops {

namespace {

void check(const Variable& x, const Variable& weight, const Variable& bias) {
  require<ShapeError>(weight.shape().rank() == 2 && x.shape().rank() >= 1 && x.shape()[-1] == weight.shape()[1],
                      "linear: x {} does not fit weight {}", x.shape().str(), weight.shape().str("M K"));
  require<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.shape()[0]},
                      "linear: bias {} does not fit weight {}", bias.shape().str(), weight.shape().str("M K"));
  require_same_kind("linear", {&x.value(), &weight.value(), &bias.value()});
}

void weight_gradient(const Tensor& dy, const Tensor& x, const GradientTarget& dw) {
  const int64_t m = dy.shape().row_size(), k = x.shape().row_size();
  on_device_floating(dy.device(), dy.dtype(), [&]<class T>(auto tag) {
    kernels::gemm<T>(tag, Launch{},
                     {.m = m,
                      .n = k,
                      .k = dy.shape().rows(),
                      .a = dy.data<T>(),
                      .lda = m,
                      .transpose_a = true,
                      .b = x.data<T>(),
                      .ldb = k,
                      .c = dw.tensor.data<T>(),
                      .ldc = k,
                      .mode = dw.mode});
  });
}

void input_gradient(const Tensor& dy, const Tensor& weight, const GradientTarget& dx) {
  const int64_t m = weight.shape()[0], k = weight.shape()[1];
  on_device_floating(dy.device(), dy.dtype(), [&]<class T>(auto tag) {
    kernels::gemm<T>(tag, Launch{},
                     {.m = dy.shape().rows(),
                      .n = k,
                      .k = m,
                      .a = dy.data<T>(),
                      .lda = m,
                      .b = weight.data<T>(),
                      .ldb = k,
                      .c = dx.tensor.data<T>(),
                      .ldc = k,
                      .mode = dx.mode});
  });
}

void bias_gradient(const Tensor& dy, const GradientTarget& db) {
  const int64_t rows = dy.shape().rows(), m = dy.shape().row_size();
  on_floating(dy.dtype(), [&]<class T>() {
    Workspace workspace(dy.device(), workspace_bytes(dy.device(), [&](auto tag) {
                          return kernels::column_sum_workspace_bytes<T>(tag, rows, m);
                        }));
    on_device(dy.device(), [&](auto tag) {
      kernels::column_sum<T>(tag, workspace, rows, m, dy.data<T>(), m, db.tensor.data<T>(), db.mode);
    });
  });
}

}  // namespace

Variable linear(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias) {
  check(x, weight, bias);
  const int64_t rows = x.shape().rows(), m = weight.shape()[0], k = weight.shape()[1];
  auto extents = x.shape().extents();
  extents.back() = m;
  Tensor y = Tensor::empty(Shape(extents), x.dtype(), x.device());
  on_device_floating(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::gemm<T>(tag, Launch{},
                     {.m = rows,
                      .n = m,
                      .k = k,
                      .a = x.value().data<T>(),
                      .lda = k,
                      .b = weight.value().data<T>(),
                      .ldb = k,
                      .transpose_b = true,
                      .c = y.data<T>(),
                      .ldc = m});
    if (bias.defined()) kernels::add_bias<T>(tag, Launch{}, rows, m, bias.value().data<T>(), y.data<T>(), m);
  });
  std::vector<Variable> inputs = {x, weight};
  if (bias.defined()) inputs.push_back(bias);
  return tape.record(
      y, inputs, [xv = x.value(), wv = weight.value(), biased = bias.defined()](const Tensor& dy, InputGradients& in) {
        if (in.wanted(0)) input_gradient(dy, wv, in.target(0));
        if (in.wanted(1)) weight_gradient(dy, xv, in.target(1));
        if (biased && in.wanted(2)) bias_gradient(dy, in.target(2));
      });
}

}  // namespace moeut::ops
