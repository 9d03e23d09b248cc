// Dense projection.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// y = x · Wᵀ + b.   x: (…, K)   weight: (M, K)   bias: (M) or undefined   y: (…, M).
/// Throws ShapeError if K or M disagree.
Variable linear(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias = {});

}  // namespace moeut::ops
