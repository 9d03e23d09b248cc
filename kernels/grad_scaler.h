// Dynamic loss scaling for fp16, whose smallest number is 6e-8.   [Micikevicius et al. 2018]
#pragma once

#include <cstdint>

#include "core/float16.h"

namespace moeut {

/// The loss is multiplied by `scale` before backward and the gradient divided by it after, both exactly (a power of
/// two). A step whose gradient overflows is left out and halves the scale; kPatience good steps in a row double it.
struct GradScaler {
  static constexpr double kFirst = 65536, kLargest = 16777216, kSmallest = 1;
  static constexpr int64_t kPatience = 2000;

  double scale = kFirst;
  int64_t good_steps = 0;  ///< since the scale was last changed

  bool operator==(const GradScaler&) const = default;

  /// After a step: whether its loss and gradient were finite.
  MOEUT_BOTH_SIDES void take(bool finite) {
    if (!finite) {
      scale = scale / 2 > kSmallest ? scale / 2 : kSmallest;
      good_steps = 0;
    } else if (++good_steps == kPatience) {
      scale = scale * 2 < kLargest ? scale * 2 : kLargest;
      good_steps = 0;
    }
  }
  /// Halving can help no more: the trouble is not the format's range.
  MOEUT_BOTH_SIDES bool exhausted() const { return scale == kSmallest; }
};

}  // namespace moeut
