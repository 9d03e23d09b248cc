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
  require_same_kind("linear", {&x.value(), &weight.value()});
  if (bias.defined()) require_wide("linear", "bias", bias.value(), x.dtype());
}

/// dy and x have the type of the operands; the target's may be its wide type.
void weight_gradient(const Tensor& dy, const Tensor& x, const GradientTarget& dw) {
  const int64_t m = dy.shape().row_size(), k = x.shape().row_size();
  on_device_number(x.device(), x.dtype(), [&]<class T>(auto tag) {
    on_output<T>(dw.tensor.dtype(), [&]<class Out>() {
      kernels::gemm<T, Out>(tag, Launch{},
                            {.m = m,
                             .n = k,
                             .k = dy.shape().rows(),
                             .a = dy.data<T>(),
                             .lda = m,
                             .transpose_a = true,
                             .b = x.data<T>(),
                             .ldb = k,
                             .c = dw.tensor.data<Out>(),
                             .ldc = k,
                             .mode = dw.mode});
    });
  });
}

void input_gradient(const Tensor& dy, const Tensor& weight, const GradientTarget& dx) {
  const int64_t m = weight.shape()[0], k = weight.shape()[1];
  on_device_number(weight.device(), weight.dtype(), [&]<class T>(auto tag) {
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
  on_number(dy.dtype(), [&]<class T>() {
    Workspace workspace(dy.device(), workspace_bytes(dy.device(), [&](auto tag) {
                          return kernels::column_sum_workspace_bytes<T>(tag, rows, m);
                        }));
    on_device(dy.device(), [&](auto tag) {
      kernels::column_sum<T>(tag, workspace, rows, m, dy.data<T>(), m, db.tensor.data<Wide<T>>(), db.mode);
    });
  });
}

void multiply(const Tensor& x, const Tensor& weight, const Tensor& y) {
  const int64_t m = weight.shape()[0], k = weight.shape()[1];
  on_device_number(x.device(), x.dtype(), [&]<class T>(auto tag) {
    on_output<T>(y.dtype(), [&]<class Out>() {
      kernels::gemm<T, Out>(tag, Launch{},
                            {.m = x.shape().rows(),
                             .n = m,
                             .k = k,
                             .a = x.data<T>(),
                             .lda = k,
                             .b = weight.data<T>(),
                             .ldb = k,
                             .transpose_b = true,
                             .c = y.data<Out>(),
                             .ldc = m});
    });
  });
}

void add_bias(const Tensor& bias, const Tensor& y) {
  const int64_t rows = y.shape().rows(), m = y.shape().row_size();
  on_device_number(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::add_bias<T>(tag, Launch{}, rows, m, bias.data<Wide<T>>(), y.data<T>(), m);
  });
}

}  // namespace

Variable linear(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias, LinearOutput output) {
  check(x, weight, bias);
  auto extents = x.shape().extents();
  extents.back() = weight.shape()[0];
  const DType type = output == LinearOutput::wide ? wide_of(x.dtype()) : x.dtype();
  Tensor y = Tensor::empty(Shape(extents), type, x.device());
  multiply(x.value(), weight.value(), y);
  if (bias.defined()) add_bias(bias.value(), y);
  std::vector<Variable> inputs = {x, weight};
  if (bias.defined()) inputs.push_back(bias);
  return tape.record(
      y, inputs, [xv = x.value(), wv = weight.value(), biased = bias.defined()](const Tensor& dy, InputGradients& in) {
        const Tensor operand = as_type(dy, xv.dtype());
        if (in.wanted(0)) input_gradient(operand, wv, in.target(0));
        if (in.wanted(1)) weight_gradient(operand, xv, in.target(1));
        if (biased && in.wanted(2)) bias_gradient(dy, in.target(2));
      });
}

}  // namespace moeut::ops
