// In which order the sequences of one corpus are visited, epoch after epoch.
#pragma once

#include <cstdint>

namespace moeut {

enum class SampleOrder : uint8_t { shuffled, sequential, lanes };

/// Sample s of a corpus lies in epoch e = s div m at position p = s mod m, m = samples_per_epoch(), n its number of
/// sequences, and is sequence
///   shuffled:    Permutation(n, seed, e)(p);   m = n
///   sequential:  p;                            m = n
///   lanes:       (p mod B) · (n div B) + p div B;   m = (n div B) · B, B lanes
/// so an epoch visits each sequence once; lanes leave out the last n mod B, in every epoch. Lanes are B readers side by
/// side, each going through a B-th of the corpus in its own order: in batches of B sequences row b always continues
/// where row b of the batch before ended. With B = 64 it is the order of the paper [MultibatchSequentialSampler of the
/// official code]. This is a format: it never changes. Any sample costs the same, in time and in memory.
class EpochOrder {
 public:
  /// 1 <= sequences <= 2^62; `lanes` and `seed` count only for the order that uses them. Throws ConfigError for lanes
  /// below 1, or more of them than sequences.
  EpochOrder(uint64_t sequences, SampleOrder order, uint64_t lanes, uint64_t seed);

  uint64_t samples_per_epoch() const { return samples_; }
  /// The sequence that a sample is.
  uint64_t operator()(uint64_t sample) const;

 private:
  uint64_t sequences_;
  SampleOrder order_;
  uint64_t lanes_;
  uint64_t seed_;
  uint64_t samples_;
};

}  // namespace moeut
