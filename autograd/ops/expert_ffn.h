// The σ-MoE feed-forward experts.   [Csordás et al. 2023]
#pragma once

#include "autograd/ops/route.h"

namespace moeut::ops {

/// y[n] = Σ_{e in topK(n)} gate[n, e] · relu(x[n] · keys[e]) · values[e].
/// x, y: (…, D)   keys: (E, D, S)   values: (E, S, D)   routing: N rows, K pairs each.
/// Keeps x and relu(x · keys) for backward. Throws ShapeError if the sizes disagree.
Variable expert_ffn(Tape& tape, const Variable& x, const Variable& keys, const Variable& values,
                    const Routing& routing);

}  // namespace moeut::ops
