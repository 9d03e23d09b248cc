// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a pure function of (key, counter), so the same
// numbers on every device and for any number of threads, micro-batches or ranks.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define MOEUT_HOST_DEVICE __host__ __device__
#else
#define MOEUT_HOST_DEVICE
#endif

namespace moeut {

struct Philox4 {
  uint32_t x[4];
};

/// Four 32-bit words for a 64-bit key and a 128-bit counter.
MOEUT_HOST_DEVICE inline Philox4 philox(uint64_t key, uint64_t counter_high, uint64_t counter_low) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  uint32_t c0 = static_cast<uint32_t>(counter_low), c1 = static_cast<uint32_t>(counter_low >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_high), c3 = static_cast<uint32_t>(counter_high >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// Uniform in [0, 1) with 24 bits.
MOEUT_HOST_DEVICE inline float uniform_float(uint32_t word) {
  return static_cast<float>(word >> 8) * (1.0f / 16777216.0f);
}

/// Uniform in (0, 1) with 52 bits from two words.
MOEUT_HOST_DEVICE inline double uniform_double(uint32_t high, uint32_t low) {
  return (static_cast<double>((static_cast<uint64_t>(high) << 32 | low) >> 12) + 0.5) * (1.0 / 4503599627370496.0);
}

/// The random numbers of a training step's dropout, read from device memory so that a captured graph stays true.
/// Element i of sequence b at dropout site s: key `seed`, counter (first_sample + b, s << 40 | i / 4), word i % 4.
struct RngState {
  uint64_t seed = 0;
  uint64_t first_sample = 0;  ///< global index of the micro-batch's first sequence
};

MOEUT_HOST_DEVICE inline float dropout_uniform(const RngState& rng, uint64_t sequence, uint64_t site,
                                               uint64_t element) {
  const Philox4 r = philox(rng.seed, rng.first_sample + sequence, site << 40 | element / 4);
  return uniform_float(r.x[element % 4]);
}

/// A host generator for initialisation and sampling: stream `stream` of `seed`.
class Rng {
 public:
  Rng(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}

  double uniform() {
    const Philox4 r = philox(seed_, stream_, counter_++);
    return uniform_double(r.x[0], r.x[1]);
  }
  /// Standard normal (Box-Muller).
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const Philox4 r = philox(seed_, stream_, counter_++);
    const double radius = std::sqrt(-2.0 * std::log(uniform_double(r.x[0], r.x[1])));
    const double angle = 6.283185307179586476925286766559 * uniform_double(r.x[2], r.x[3]);
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

 private:
  uint64_t seed_, stream_, counter_ = 0;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace moeut
