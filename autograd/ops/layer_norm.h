// Layer normalisation.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// y = (x - mean) / √(var + eps) · weight + bias over the last dimension.   x, y: (…, D)   weight, bias: (D).
Variable layer_norm(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias, double eps = 1e-5);

}  // namespace moeut::ops
