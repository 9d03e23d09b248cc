// The language model's head and its loss in one: all logits are never there at once.
#pragma once

#include "autograd/ops/cross_entropy.h"

namespace moeut::ops {

struct LinearCrossEntropyOptions {
  double scale = 1;  ///< as cross_entropy's
  /// The gradient of the loss that backward is to start from (a loss scale), a scalar of the wide type on the device;
  /// undefined: 1. Another one gives the same gradients but for the roundings of a narrow format, and its range.
  Tensor upstream = {};
  int64_t block_elements = int64_t{1} << 26;  ///< logits that are there at once, about
};

/// cross_entropy(linear(x, weight, bias), target), block of rows by block: the logits of one are made, overwritten by
/// their gradient in the pass that gives their loss, and multiplied into the gradients of x, weight and bias. These are
/// kept until backward, which only scales them.
/// x: (…, K)   weight: (V, K)   bias: (V), wide, or undefined   target: as cross_entropy's.
/// Throws ShapeError and BackendError as linear and cross_entropy.
CrossEntropy linear_cross_entropy(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias,
                                  const Tensor& target, const LinearCrossEntropyOptions& options);

}  // namespace moeut::ops
