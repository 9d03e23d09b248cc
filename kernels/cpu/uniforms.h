// The uniform numbers of dropout in bulk: the same as dropout_uniform() one by one.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/rng.h"
#include "kernels/cpu/simd.h"

namespace moeut::kernels {

/// The uniforms of the elements [first, first + n) of one sequence at one site, n <= kElements.
struct DropoutUniforms {
  static constexpr int64_t kElements = 256;
  static constexpr int64_t kGroups =
      kElements / 4 + 1;  // a run that starts inside a group of four touches one group more

  /// Returns a pointer to the uniform of element `first`.
  MOEUT_INLINE const float* fill(const RngState& rng, uint64_t sequence, uint64_t site, uint64_t first, int64_t n) {
    const uint64_t group = first / 4, counter = site << 40 | group, high = rng.first_sample + sequence;
    const int64_t groups = static_cast<int64_t>((first + static_cast<uint64_t>(n) + 3) / 4 - group);
    uint32_t words[4][kGroups];
    for (int64_t g = 0; g < groups; ++g) {
      const Philox4 r = philox(rng.seed, high, counter + static_cast<uint64_t>(g));
      for (int w = 0; w < 4; ++w) words[w][g] = r.x[w];
    }
    for (int64_t g = 0; g < groups; ++g) {
      for (int w = 0; w < 4; ++w) values[4 * g + w] = uniform_float(words[w][g]);
    }
    return values + first % 4;
  }

  float values[4 * kGroups];
};

/// The smallest uniform that is kept: u >= p in exact arithmetic is u >= dropout_threshold(p) in float, as uniforms are
/// multiples of 2^-24.
inline float dropout_threshold(double p) {
  return static_cast<float>(std::ceil(p * 16777216.0) / 16777216.0);
}

}  // namespace moeut::kernels
