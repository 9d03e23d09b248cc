// Softmax attention over any mask.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// What queries may not see; true (1) means removed. A key is removed if any part says so; nothing set: no masking.
struct AttentionMask {
  Tensor src_length_mask;  ///< u8 (B, Tk) over keys, or undefined
  Tensor position_mask;    ///< u8 (Tq, Tk) or (B, Tq, Tk), or undefined
  /// i32 (B, Tq), or undefined: query i sees key j only if j >= first_key[b, i]. With causal and the place where each
  /// query's document begins, attention never leaves a document: a (B, Tq, Tk) mask in effect, in O(B·T) memory.
  Tensor first_key;
  bool causal = false;  ///< query i sees key j only if j <= i + (Tk - Tq)
};

/// out[b,i,h] = softmax(q·kᵀ + mask) v, scale 1; a query that sees nothing gets 0.
/// q, out: (B, Tq, H·P)   k, v: (B, Tk, H·P). Throws ShapeError if shapes or masks disagree.
/// k_len > 0: only the first k_len times of k and v count (a cache with room to grow); then no gradient flows to them.
Variable attention(Tape& tape, const Variable& q, const Variable& k, const Variable& v, int64_t heads,
                   const AttentionMask& mask, int64_t k_len = 0);

}  // namespace moeut::ops
