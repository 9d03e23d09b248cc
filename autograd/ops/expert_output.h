// SwitchHead's output experts.   [Csordás et al. 2024, SwitchHead]
#pragma once

#include "autograd/ops/route.h"

namespace moeut::ops {

/// y[n] = Σ_h Σ_{e in topKa(n, h)} gate · (x[n, h] · weight[h·Ea + e]).
/// x: (B, T, H·P)   weight: (H·Ea, P, D)   routing: N·H rows, Ka pairs each   y: (B, T, D).
/// Throws ShapeError if the sizes disagree.
Variable expert_output(Tape& tape, const Variable& x, const Variable& weight, int64_t heads, const Routing& routing);

}  // namespace moeut::ops
