// Token embedding.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// y[…, :] = table[token[…], :].   token: int32 (B, T)   table: (V, D)   y: (B, T, D).
/// Throws ShapeError for a token outside [0, V), naming it and its place.
Variable embedding(Tape& tape, const Tensor& token, const Variable& table);

}  // namespace moeut::ops
