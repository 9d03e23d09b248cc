// A trainable tensor with its gradient.
#pragma once

#include <string>

#include "core/tensor.h"

namespace moeut {

/// Value and gradient under an interchange name (moeut.md's table). The gradient is valid while `has_gradient`;
/// otherwise the first contribution overwrites it, so that nothing is ever zero-filled.
struct Parameter {
  std::string name;
  Tensor value;
  /// In mixed precision the copy of `value`, rounded to a narrow format, that ops read; undefined where they read
  /// `value` itself.
  Tensor narrow;
  Tensor gradient;
  bool has_gradient = false;
  bool trainable = true;
  /// True for matrices and expert stacks, false for biases and norm weights: what optimizer.decay = matrices decays.
  bool is_matrix = true;

  /// Allocates on first use.
  Tensor& gradient_storage() {
    if (!gradient.defined()) gradient = Tensor::empty(value.shape(), value.dtype(), value.device());
    return gradient;
  }
  /// What ops read.
  const Tensor& operand() const { return narrow.defined() ? narrow : value; }
  /// To be called when `value` has changed: makes `narrow` its copy again.
  void refresh_narrow();
  /// Forgets the gradient without touching its memory.
  void clear_gradient() { has_gradient = false; }
};

}  // namespace moeut
