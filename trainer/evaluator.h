// The loss on held-out data.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "data/loader.h"
#include "layers/moeut_lm.h"
#include "trainer/ranks.h"

namespace moeut {

struct EvaluationOptions {
  int64_t sequences = 0;   ///< samples 0 … sequences - 1 of the loader; 0: an epoch
  int64_t batch_size = 1;  ///< most sequences computed at once
  Ranks* ranks = nullptr;  ///< that take the batches in turns; null: this one alone
  /// Asked before every batch of this rank; the same on all of them.
  std::function<bool()> interrupted = [] { return false; };
};

/// Mean cross-entropy in nats per target that is not ignored: no dropout, no regulariser; sums in float64 in the
/// loader's order, batch by batch, whichever rank computed them. Nothing if interrupted. Collective.
std::optional<double> validation_loss(MoeutLm& model, const Loader& loader, const EvaluationOptions& options);

}  // namespace moeut
