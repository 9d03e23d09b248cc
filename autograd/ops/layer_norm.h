// Layer normalisation, alone or with the addition that comes before it in a residual stream.
#pragma once

#include <optional>

#include "autograd/tape.h"

namespace moeut::ops {

struct LayerNormOptions {
  double eps = 1e-5;
  std::optional<DType> out = {};  ///< type of y, whose wide type is x's; unset: that of x
};

/// y = (x - mean) / √(var + eps) · weight + bias over the last dimension.   x, y: (…, D)   weight, bias: (D), with the
/// type of x.
Variable layer_norm(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias,
                    const LayerNormOptions& options = {});

/// What is read of a residual stream: itself, its copy in the type of matrix products, its norm in that type. Where
/// that type is the stream's own, narrow is h.
struct NormedSum {
  Variable h, narrow, y;
};
/// h = x + branch, narrow = h, y = layer_norm(h), in one pass over the operands, and so is the gradient of x and
/// branch. Without a branch (undefined) h is x.   branch: as x. Throws ShapeError if shapes or types do not fit.
NormedSum layer_norm_of_sum(Tape& tape, const Variable& x, const Variable& branch, const Variable& weight,
                            const Variable& bias, const LayerNormOptions& options = {});

}  // namespace moeut::ops
