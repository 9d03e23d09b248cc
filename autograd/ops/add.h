// Sum of two values of one shape.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// y = a + b. The gradient of y is that of both. Throws ShapeError if shapes differ.
Variable add(Tape& tape, const Variable& a, const Variable& b);

}  // namespace moeut::ops
