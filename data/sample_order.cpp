#include "data/sample_order.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/check.h"
#include "data/permutation.h"

namespace moeut {
namespace {

/// Whole shares of `block` in the ratio of the weights: rounded down, the rest to those with the largest remainders.
std::vector<uint64_t> whole_shares(const std::vector<double>& weights, uint64_t block) {
  const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<uint64_t> shares;
  std::vector<double> remainders;
  for (const double weight : weights) {
    const double exact = weight / all * static_cast<double>(block);
    shares.push_back(static_cast<uint64_t>(exact));
    remainders.push_back(exact - std::floor(exact));
  }
  std::vector<size_t> by_remainder(weights.size());
  std::iota(by_remainder.begin(), by_remainder.end(), size_t{0});
  std::stable_sort(by_remainder.begin(), by_remainder.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  const uint64_t missing = block - std::accumulate(shares.begin(), shares.end(), uint64_t{0});
  for (uint64_t i = 0; i < missing; ++i) ++shares[by_remainder[i % shares.size()]];
  return shares;
}

}  // namespace

uint64_t SampleOrder::window(uint64_t sample) const {
  const uint64_t position = sample % samples_;
  switch (kind_) {
    case Kind::kShuffled:
      return Permutation(windows_, seed_or_lanes_, sample / samples_)(position);
    case Kind::kSequential:
      return position;
    case Kind::kLanes:
      return position % seed_or_lanes_ * (windows_ / seed_or_lanes_) + position / seed_or_lanes_;
  }
  return 0;
}

Mixture::Mixture(const std::vector<double>& weights) {
  for (const double weight : weights)
    require<ConfigError>(weight > 0 && std::isfinite(weight), "mixture: a weight of {}; weights must be above 0",
                         weight);
  shares_ = whole_shares(weights, kBlock);
  for (size_t c = 0; c < weights.size(); ++c)
    require<ConfigError>(shares_[c] > 0,
                         "mixture: weight {} of corpus {} is less than 1 sequence of {}; leave it out or raise it",
                         weights[c], c + 1, kBlock);
  if (weights.size() == 1) return;
  std::vector<uint32_t> count(weights.size());
  for (uint64_t i = 0; i < kBlock; ++i) {
    const auto behind = [&](size_t c) {
      return static_cast<int64_t>(shares_[c] * (i + 1)) - static_cast<int64_t>(kBlock * count[c]);
    };
    size_t corpus = 0;
    for (size_t c = 1; c < shares_.size(); ++c)
      if (behind(c) > behind(corpus)) corpus = c;
    slots_.push_back({static_cast<uint32_t>(corpus), count[corpus]++});
  }
}

Mixture::Place Mixture::operator()(uint64_t sample) const {
  if (slots_.empty()) return {0, sample};
  const Slot slot = slots_[sample % kBlock];
  return {slot.corpus, sample / kBlock * shares_[slot.corpus] + slot.before};
}

}  // namespace moeut
