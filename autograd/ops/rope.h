// Rotary position embedding.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

struct RopeOptions {
  int64_t heads = 1;
  int64_t n_rotate = 0;        ///< rotated dims of each head, even
  int64_t first_position = 0;  ///< position of the first token: what is in the cache already
  double base = 10000;
  double scale = 1;  ///< multiplies the result
};

/// y = scale · rotate(x), see kernels/rope.h.   x, y: (B, T, H·P). Throws ShapeError if H does not divide the width or
/// n_rotate is odd or > P.
Variable rope(Tape& tape, const Variable& x, const RopeOptions& options);

}  // namespace moeut::ops
