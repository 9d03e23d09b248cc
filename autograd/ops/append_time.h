// Concatenation along time with something already there.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// y = [past; x] along time.   past: (B, Tp, W), a constant   x: (B, T, W)   y: (B, Tp + T, W). The gradient flows to
/// x. Throws ShapeError if B or W disagree.
Variable append_time(Tape& tape, const Tensor& past, const Variable& x);

/// Copies (B, T, W) rows `from` into `to` (B, C, W) at time `at`. Throws ShapeError if they do not fit.
void copy_time(const Tensor& from, const Tensor& to, int64_t at);

}  // namespace moeut::ops
