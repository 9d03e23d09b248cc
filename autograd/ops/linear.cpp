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

/// cuBLAS leaves the tensor cores' fast kernels where rows of 16-bit products do not begin at multiples of 16 bytes
/// (387 router columns: 84 instead of 500 TFLOP/s on an H100), so such rows are pitched there.
int64_t row_stride_for(int64_t width, DType operands, Device device) {
  constexpr int64_t kChunk = 8;  // elements of 16 bits
  return device.is_cuda() && size_of(operands) == 2 ? (width + kChunk - 1) / kChunk * kChunk : width;
}

/// A copy between tensors of one shape and different pitch, from float to any type.
void copy_rows(const Tensor& from, const Tensor& to) {
  const int64_t rows = from.shape().rows(), width = from.shape().row_size();
  on_device(from.device(), [&](auto tag) {
    const auto run = [&]<class To>() {
      kernels::cast_rows<float, To>(tag, Launch{}, rows, width, from.data<float>(), from.row_stride(), to.data<To>(),
                                    to.row_stride());
    };
    if (to.dtype() == DType::f32) return run.template operator()<float>();
    on_number(to.dtype(), [&]<class T>() {
      if constexpr (kIsNarrow<T>) run.template operator()<T>();
    });
  });
}

/// dy as an operand of a matrix product: in their type, and pitched where that is faster.
Tensor as_operand(const Tensor& dy, DType type) {
  const int64_t width = dy.shape().row_size(), stride = row_stride_for(width, type, dy.device());
  if (stride == width || dy.dtype() != DType::f32) return as_type(dy, type);
  const Tensor operand = Tensor::empty(dy.shape(), type, dy.device(), stride);
  copy_rows(dy, operand);
  return operand;
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
                             .lda = dy.row_stride(),
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
                      .lda = dy.row_stride(),
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
                             .ldc = y.row_stride()});
    });
  });
}

/// The same through a pitched copy where that is faster.
void multiply_into(const Tensor& x, const Tensor& weight, const Tensor& y) {
  const int64_t stride = row_stride_for(y.shape().row_size(), x.dtype(), x.device());
  if (y.dtype() != DType::f32 || stride == y.row_stride()) return multiply(x, weight, y);
  const Tensor pitched = Tensor::empty(y.shape(), y.dtype(), y.device(), stride);
  multiply(x, weight, pitched);
  copy_rows(pitched, y);
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
  multiply_into(x.value(), weight.value(), y);
  if (bias.defined()) add_bias(bias.value(), y);
  std::vector<Variable> inputs = {x, weight};
  if (bias.defined()) inputs.push_back(bias);
  return tape.record(
      y, inputs, [xv = x.value(), wv = weight.value(), biased = bias.defined()](const Tensor& dy, InputGradients& in) {
        const Tensor operand = as_operand(dy, xv.dtype());
        if (in.wanted(0)) input_gradient(operand, wv, in.target(0));
        if (in.wanted(1)) weight_gradient(operand, xv, in.target(1));
        if (biased && in.wanted(2)) bias_gradient(dy, in.target(2));
      });
}

}  // namespace moeut::ops
