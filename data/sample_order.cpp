#include "data/sample_order.h"

#include "core/check.h"
#include "data/permutation.h"

namespace moeut {

EpochOrder::EpochOrder(uint64_t sequences, SampleOrder order, uint64_t lanes, uint64_t seed)
    : sequences_(sequences), order_(order), lanes_(lanes), seed_(seed), samples_(sequences) {
  if (order != SampleOrder::lanes) return;
  require<ConfigError>(lanes >= 1 && lanes <= sequences,
                       "order of the data: {} lanes for {} sequences; data.lanes must be from 1 to the number of "
                       "sequences",
                       lanes, sequences);
  samples_ = sequences / lanes * lanes;
}

uint64_t EpochOrder::operator()(uint64_t sample) const {
  const uint64_t position = sample % samples_;
  switch (order_) {
    case SampleOrder::shuffled:
      return Permutation(sequences_, seed_, sample / samples_)(position);
    case SampleOrder::sequential:
      return position;
    case SampleOrder::lanes:
      return position % lanes_ * (sequences_ / lanes_) + position / lanes_;
  }
  return position;
}

}  // namespace moeut
