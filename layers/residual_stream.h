// The residual stream between two blocks.
#pragma once

#include "autograd/ops/add.h"

namespace moeut {

/// x + branch: a block leaves the addition to the norm that reads the sum, which then reads memory once for both.
/// Without a branch (undefined): x.   x, branch: (B, T, D).
struct ResidualStream {
  Variable x, branch = {};

  /// Where no norm follows.
  Variable sum(Tape& tape) const { return branch.defined() ? ops::add(tape, x, branch) : x; }
};

}  // namespace moeut
