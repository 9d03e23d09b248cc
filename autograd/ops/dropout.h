// Dropout.
#pragma once

#include "autograd/tape.h"
#include "core/rng.h"

namespace moeut::ops {

/// Where the random numbers of one dropout come from: state in the operand's memory (core/rng.h) and a site number of
/// its own.
struct DropoutSource {
  Tensor state;  ///< u64 (2): seed, first_sample (an RngState)
  uint64_t site = 0;
};

/// y = x / (1 - p) where kept, 0 where dropped.   x: (B, …); the sequence is the first dimension. p = 0 returns x.
Variable dropout(Tape& tape, const Variable& x, double p, const DropoutSource& source);

}  // namespace moeut::ops
