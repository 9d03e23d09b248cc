// Activation checkpointing: what the backward pass needs of a region is computed again instead of kept.
// [Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost]
#pragma once

#include <functional>
#include <vector>

#include "autograd/tape.h"

namespace moeut {

/// Computes outputs from x on the tape it is given. Two runs must give the same bits: what is random comes from
/// numbered streams (core/rng.h), and parameters change only after the backward pass.
using Region = std::function<std::vector<Variable>(Tape& tape, const Variable& x)>;

/// Records `values` as the outputs of `region` for x. Only x is kept for the backward pass, which runs the region on a
/// tape of its own and then that tape.
/// values: what the region gave for x on a tape that does not record   parameters: all that the region may use.
/// A DeferredGradient inside waits for the last use within the region, not for the last of all, as waiting would keep
/// what the region computed: where regions share a parameter its parts are summed in another order than without
/// regions. The backward pass throws ShapeError if the region then gives another number of outputs or other shapes.
std::vector<Variable> record_region(Tape& tape, std::vector<Tensor> values, const Variable& x,
                                    const std::vector<Parameter*>& parameters, Region region);

}  // namespace moeut
