// Layer normalisation.
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

}  // namespace moeut::ops
