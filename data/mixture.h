// Which corpus a sample comes from, when several are mixed by weight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace moeut {

/// Deals the samples 0, 1, 2, … out to corpora in exact shares. Weights become whole numbers, q_c = round(w_c / Σw ·
/// 2^31), and Q_c = q_c + q_(c+1) + … + q_(C-1). Of the first m samples that corpora c … C-1 get together, corpus c
/// gets
///   n_c(m) = floor((m · q_c + floor(Q_c / 2)) / Q_c)
/// and the others the rest, m - n_c(m), which is dealt out likewise from corpus c + 1 on; the last takes all. So each
/// corpus gets its samples 0, 1, 2, … in this order, at every moment within C / 2 of its share, and a sample is found
/// in O(C) steps wherever it lies. This is a format: it never changes. It does not depend on the seed.
class Mixture {
 public:
  /// Throws ConfigError unless there are 1 to 1024 weights, each of them at least 2^-31 of their sum.
  explicit Mixture(const std::vector<double>& weights);

  /// `sample` of all is sample `index` of `corpus`.
  struct Place {
    size_t corpus = 0;
    uint64_t index = 0;
  };
  Place operator()(uint64_t sample) const;
  /// q_c of the formula.
  uint64_t quota(size_t corpus) const { return quotas_[corpus]; }

 private:
  uint64_t share(size_t corpus, uint64_t samples) const;

  std::vector<uint64_t> quotas_;
  std::vector<uint64_t> remaining_;  ///< Q_c
};

}  // namespace moeut
