// The entropy regulariser of a router.
#pragma once

#include <vector>

#include "autograd/tape.h"

namespace moeut::ops {

/// scale · Σ_b (1 / heads) Σ_h Σ_e m · exp(m), m = log mean over repeats and time of softmax(logits): see
/// kernels/entropy.h. logits: one (B, T, heads·E) a repeat, all of one shape. Returns one element.
Variable entropy(Tape& tape, const std::vector<Variable>& logits, int64_t heads, double scale);

}  // namespace moeut::ops
