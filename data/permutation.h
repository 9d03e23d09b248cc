// A random order of [0, n) that needs no memory: position i's element is computed.
#pragma once

#include <array>
#include <cstdint>

namespace moeut {

/// A bijection of [0, n) chosen by (seed, stream), 1 <= n <= 2^62. Part of the data order, hence a format: never
/// changed.
///
/// Let h be the smallest number >= 1 with 4^h >= n. A Feistel network of 8 rounds acts on 2h bits: (L, R) -> (R, L xor
/// F_r(R)), F_r(x) = the h low bits of mix(x + key_r), mix = SplitMix64's finaliser. It is applied again to its own
/// result until that is below n (cycle walking; fewer than 4 times on average). The keys are 8 successive outputs of
/// SplitMix64 started from mix(seed + 0x9E3779B97F4A7C15) xor mix(stream + 0xD1B54A32D192ED03).
class Permutation {
 public:
  Permutation(uint64_t n, uint64_t seed, uint64_t stream);
  /// The element at position i < n.
  uint64_t operator()(uint64_t i) const;

 private:
  static constexpr int kRounds = 8;
  uint64_t n_;
  int half_bits_ = 1;
  std::array<uint64_t, kRounds> keys_;
};

}  // namespace moeut
