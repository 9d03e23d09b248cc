#include "data/mixture.h"

#include <cmath>
#include <numeric>

#include "core/check.h"

namespace moeut {

Mixture::Mixture(const std::vector<double>& weights) {
  require<ConfigError>(!weights.empty() && weights.size() <= 1024, "mixture: {} corpora; from 1 to 1024 are possible",
                       weights.size());
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (const double weight : weights) {
    const double quota = weight / sum * 0x1p31;
    require<ConfigError>(weight > 0 && std::isfinite(sum) && quota >= 1,
                         "mixture: weight {} of a sum of {}: every corpus needs a positive weight, and at least 2^-31 "
                         "of the sum",
                         weight, sum);
    quotas_.push_back(static_cast<uint64_t>(std::llround(quota)));
  }
  remaining_.resize(quotas_.size());
  std::partial_sum(quotas_.rbegin(), quotas_.rend(), remaining_.rbegin());
}

/// n_c(m), without overflow: Q < 2^32 and q <= Q.
uint64_t Mixture::share(size_t corpus, uint64_t samples) const {
  const uint64_t quota = quotas_[corpus], all = remaining_[corpus];
  return samples / all * quota + (samples % all * quota + all / 2) / all;
}

Mixture::Place Mixture::operator()(uint64_t sample) const {
  size_t corpus = 0;
  for (; corpus + 1 < quotas_.size(); ++corpus) {
    const uint64_t before = share(corpus, sample);
    if (share(corpus, sample + 1) > before) return {corpus, before};
    sample -= before;
  }
  return {corpus, sample};
}

}  // namespace moeut
