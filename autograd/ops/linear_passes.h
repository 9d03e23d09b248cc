// The products of a dense projection y = x · Wᵀ + b, forward and backward, which ops put together.
// x: (rows, K) in any shape   weight: (M, K)   y, dy: (rows, M), or (rows, operand_extent(M)) with zeros in addition.
//
// cuBLAS leaves the tensor cores' fast kernels where an extent of a 16-bit product is no multiple of 8, wherever rows
// begin (387 router columns: 69 instead of 514 TFLOP/s on an H100), so there operands are copied into larger ones.
#pragma once

#include "autograd/op.h"
#include "autograd/variable.h"

namespace moeut::ops {

/// Throws ShapeError naming `op` if x, weight and bias (may be undefined) do not fit.
void check_linear(const char* op, const Variable& x, const Variable& weight, const Variable& bias);

/// The extent that a product of `type` runs best with, at least `extent`.
int64_t operand_extent(int64_t extent, DType type, Device device);
/// t in `type`, a multiplicand with rows of the best extent, zeros added; t itself if it is that already.
Tensor as_operand(const Tensor& t, DType type);

/// y = x · Wᵀ + b.   y: overwritten, in the operands' type or its wide type   bias: wide, or undefined.
void linear_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y);
/// dx = dy · W.   dy: of the operands' type.
void linear_input_gradient(const Tensor& dy, const Tensor& weight, const GradientTarget& dx);
/// dW = dyᵀ · x, in the operands' type or its wide type.
void linear_weight_gradient(const Tensor& dy, const Tensor& x, const GradientTarget& dw);
/// db = Σ dy over the rows, in the wide type of dy's.
void linear_bias_gradient(const Tensor& dy, const GradientTarget& db);

}  // namespace moeut::ops
