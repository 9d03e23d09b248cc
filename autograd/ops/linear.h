// Dense projection.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// The type of y: that of the operands, or its wide type (router logits).
enum class LinearOutput { same, wide };

/// y = x · Wᵀ + b.   x: (…, K)   weight: (M, K)   bias: (M), wide, or undefined   y: (…, M).
/// Throws ShapeError if K or M disagree.
Variable linear(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias = {},
                LinearOutput output = LinearOutput::same);

}  // namespace moeut::ops
