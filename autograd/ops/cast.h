// The same values in another number format.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// y = x rounded to `type`, or x itself if it has that type. One of the two types must be the other's wide type. The
/// gradient goes back in x's type.
Variable cast(Tape& tape, const Variable& x, DType type);

}  // namespace moeut::ops
