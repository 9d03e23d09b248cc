#include "autograd/ops/linear_passes.h"

#include <algorithm>

#include "core/check.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/reduce.h"

namespace moeut::ops {

void check_linear(const char* op, const Variable& x, const Variable& weight, const Variable& bias) {
  require<ShapeError>(weight.shape().rank() == 2 && x.shape().rank() >= 1 && x.shape()[-1] == weight.shape()[1],
                      "{}: x {} does not fit weight {}", op, x.shape().str(), weight.shape().str("M K"));
  require<ShapeError>(!bias.defined() || bias.shape() == Shape{weight.shape()[0]}, "{}: bias {} does not fit weight {}",
                      op, bias.shape().str(), weight.shape().str("M K"));
  require_same_kind(op, {&x.value(), &weight.value()});
  if (bias.defined()) require_wide(op, "bias", bias.value(), x.dtype());
}

int64_t operand_extent(int64_t extent, DType type, Device device) {
  constexpr int64_t kMultiple = 8;
  return device.is_cuda() && size_of(type) == 2 ? (extent + kMultiple - 1) / kMultiple * kMultiple : extent;
}

namespace {

/// to = from as far as it reaches; zeros where `to` has more rows or columns.
void copy(const Tensor& from, const Tensor& to, Mode mode) {
  on_device(from.device(), [&](auto tag) {
    const auto run = [&]<class From, class To>() {
      kernels::copy_padded<From, To>(tag, Launch{},
                                     {.rows = std::min(from.shape().rows(), to.shape().rows()),
                                      .width = std::min(from.shape().row_size(), to.shape().row_size()),
                                      .x = from.data<From>(),
                                      .ldx = from.row_stride(),
                                      .padded_rows = to.shape().rows(),
                                      .padded_width = to.shape().row_size(),
                                      .y = to.data<To>(),
                                      .mode = mode});
    };
    if (to.dtype() == DType::f32) return run.template operator()<float, float>();
    on_number(to.dtype(), [&]<class T>() {
      if constexpr (kIsNarrow<T>) {
        from.dtype() == DType::f32 ? run.template operator()<float, T>() : run.template operator()<T, T>();
      }
    });
  });
}

/// t as a matrix of this size and type, itself if it is that already.
Tensor padded(const Tensor& t, DType type, int64_t rows, int64_t width) {
  if (t.shape().rows() == rows && t.shape().row_size() == width) return as_type(t, type);
  const Tensor larger = Tensor::empty({rows, width}, type, t.device());
  copy(t, larger, Mode::overwrite);
  return larger;
}

Tensor weight_operand(const Tensor& weight) {
  const auto best = [&](int64_t extent) { return operand_extent(extent, weight.dtype(), weight.device()); };
  return padded(weight, weight.dtype(), best(weight.shape()[0]), best(weight.shape()[1]));
}

/// Runs product(out, mode) with `to` as out, or with a matrix (rows, width) from which it then takes its part.
template <class F>
void into(const GradientTarget& to, int64_t rows, int64_t width, F&& product) {
  if (to.tensor.shape().rows() == rows && to.tensor.shape().row_size() == width) return product(to.tensor, to.mode);
  const Tensor larger = Tensor::empty({rows, width}, to.tensor.dtype(), to.tensor.device());
  product(larger, Mode::overwrite);
  copy(larger, to.tensor, to.mode);
}

/// A factor of a product, as it lies or transposed, and its extents as the left or the right one.
struct Factor {
  const Tensor& matrix;
  bool transposed = false;

  int64_t inner(bool left) const { return left != transposed ? matrix.shape().row_size() : matrix.shape().rows(); }
  int64_t outer(bool left) const { return left != transposed ? matrix.shape().rows() : matrix.shape().row_size(); }
};

/// out = op(a) · op(b); a and b of one type, out of that or its wide type.
void multiply(const Factor& a, const Factor& b, const Tensor& out, Mode mode) {
  on_device_number(out.device(), a.matrix.dtype(), [&]<class T>(auto tag) {
    on_output<T>(out.dtype(), [&]<class Out>() {
      kernels::gemm<T, Out>(tag, Launch{},
                            {.m = a.outer(true),
                             .n = b.outer(false),
                             .k = a.inner(true),
                             .a = a.matrix.data<T>(),
                             .lda = a.matrix.shape().row_size(),
                             .transpose_a = a.transposed,
                             .b = b.matrix.data<T>(),
                             .ldb = b.matrix.shape().row_size(),
                             .transpose_b = b.transposed,
                             .c = out.data<Out>(),
                             .ldc = out.shape().row_size(),
                             .mode = mode});
    });
  });
}

}  // namespace

Tensor as_operand(const Tensor& t, DType type) {
  return padded(t, type, t.shape().rows(), operand_extent(t.shape().row_size(), type, t.device()));
}

void linear_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y) {
  const Tensor a = as_operand(x, weight.dtype()), w = weight_operand(weight);
  const auto product = [&](const Tensor& out, Mode mode) { multiply({a}, {w, true}, out, mode); };
  into({y, Mode::overwrite}, x.shape().rows(), w.shape()[0], product);
  if (!bias.defined()) return;
  on_device_number(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::add_bias<T>(tag, Launch{}, y.shape().rows(), bias.size(), bias.data<Wide<T>>(), y.data<T>(),
                         y.shape().row_size());
  });
}

void linear_input_gradient(const Tensor& dy, const Tensor& weight, const GradientTarget& dx) {
  const Tensor g = as_operand(dy, weight.dtype()), w = weight_operand(weight);
  const auto product = [&](const Tensor& out, Mode mode) { multiply({g}, {w}, out, mode); };
  into(dx, dy.shape().rows(), w.shape()[1], product);
}

void linear_weight_gradient(const Tensor& dy, const Tensor& x, const GradientTarget& dw) {
  const Tensor g = as_operand(dy, x.dtype()), a = as_operand(x, x.dtype());
  const auto product = [&](const Tensor& out, Mode mode) { multiply({g, true}, {a}, out, mode); };
  into(dw, g.shape().row_size(), a.shape().row_size(), product);
}

void linear_bias_gradient(const Tensor& dy, const GradientTarget& db) {
  const int64_t rows = dy.shape().rows(), m = db.tensor.size();
  on_number(dy.dtype(), [&]<class T>() {
    Workspace workspace(dy.device(), workspace_bytes(dy.device(), [&](auto tag) {
                          return kernels::column_sum_workspace_bytes<T>(tag, rows, m);
                        }));
    on_device(dy.device(), [&](auto tag) {
      kernels::column_sum<T>(tag, workspace, rows, m, dy.data<T>(), dy.shape().row_size(), db.tensor.data<Wide<T>>(),
                             db.mode);
    });
  });
}

}  // namespace moeut::ops
