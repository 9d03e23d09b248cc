// Which window of a corpus is its s-th sample: formats that never change.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moeut {

/// Where a global sample lies.
struct SamplePlace {
  size_t corpus = 0;    ///< of a mixture
  uint64_t window = 0;  ///< of the corpus
  bool operator==(const SamplePlace&) const = default;
};

/// The order of the windows [0, n) of one corpus, epoch after epoch; sample s lies in epoch s div N at position p =
/// s mod N, N = samples_per_epoch().
///
///   shuffled     window Permutation(n, seed, epoch)(p); N = n
///   sequential   window p; N = n
///   lanes = L    the stream is cut into L runs of m = n div L windows, and row p mod L of a batch of L reads the
///                (p div L)-th window of its own: window (p mod L) · m + p div L; N = L · m. The last n mod L windows
///                are left out of every epoch. This is the official code's order, with L = 64.
class SampleOrder {
 public:
  static SampleOrder shuffled(uint64_t n, uint64_t seed) { return {n, n, seed, Kind::kShuffled}; }
  static SampleOrder sequential(uint64_t n) { return {n, n, 0, Kind::kSequential}; }
  static SampleOrder in_lanes(uint64_t n, uint64_t lanes) { return {n, n / lanes * lanes, lanes, Kind::kLanes}; }

  uint64_t samples_per_epoch() const { return samples_; }
  uint64_t window(uint64_t sample) const;

 private:
  enum class Kind : uint8_t { kShuffled, kSequential, kLanes };
  SampleOrder(uint64_t windows, uint64_t samples, uint64_t seed_or_lanes, Kind kind)
      : windows_(windows), samples_(samples), seed_or_lanes_(seed_or_lanes), kind_(kind) {}

  uint64_t windows_, samples_, seed_or_lanes_;
  Kind kind_;
};

/// Which corpus of several a global sample comes from. Weights become whole shares of kBlock samples, which add up to
/// kBlock (largest remainders). Slot i of every block belongs to the corpus that is furthest behind its share, the
/// largest share_c · (i + 1) - kBlock · count_c, the first of equals: so any stretch of samples has nearly the shares
/// of the whole. Sample s is sample (s div kBlock) · share_c + (slots of c before slot s mod kBlock) of its corpus c:
/// each corpus's own samples are taken in order, none left out, and any s costs the same.
class Mixture {
 public:
  static constexpr uint64_t kBlock = 4096;

  /// Throws ConfigError for a weight that is not positive, or is below 1/kBlock of all.
  explicit Mixture(const std::vector<double>& weights);

  struct Place {
    size_t corpus = 0;
    uint64_t sample = 0;  ///< of the corpus
  };
  Place operator()(uint64_t sample) const;
  /// Samples of each corpus in a block.
  const std::vector<uint64_t>& shares() const { return shares_; }

 private:
  struct Slot {
    uint32_t corpus, before;
  };
  std::vector<uint64_t> shares_;
  std::vector<Slot> slots_;  ///< none for a single corpus
};

}  // namespace moeut
