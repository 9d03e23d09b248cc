#include "data/permutation.h"

#include "core/check.h"

namespace moeut {
namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;

/// SplitMix64's finaliser [Steele, Lea, Flood 2014].
uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

Permutation::Permutation(uint64_t n, uint64_t seed, uint64_t stream) : n_(n) {
  require<Error>(n >= 1 && n <= uint64_t{1} << 62, "a permutation of {} elements is not supported", n);
  while (half_bits_ < 31 && (uint64_t{1} << (2 * half_bits_)) < n) ++half_bits_;
  uint64_t state = mix(seed + kGolden) ^ mix(stream + 0xD1B54A32D192ED03);
  for (uint64_t& key : keys_) key = mix(state += kGolden);
}

uint64_t Permutation::operator()(uint64_t i) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  do {
    uint64_t left = i >> half_bits_, right = i & mask;
    for (const uint64_t key : keys_) {
      const uint64_t mixed = left ^ (mix(right + key) & mask);
      left = right;
      right = mixed;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

}  // namespace moeut
