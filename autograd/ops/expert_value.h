// SwitchHead's value experts.   [Csordás et al. 2024, SwitchHead]
#pragma once

#include "autograd/ops/route.h"

namespace moeut::ops {

/// v[n, h] = Σ_{e in topKa(n, h)} gate · (x[n] · weight[h·Ea + e]).
/// x: (B, T, D)   weight: (H·Ea, D, P)   routing: N·H rows, Ka pairs each   v: (B, T, H·P).
/// Throws ShapeError if the sizes disagree.
Variable expert_value(Tape& tape, const Variable& x, const Variable& weight, int64_t heads, const Routing& routing);

}  // namespace moeut::ops
