// One optimizer step: the page that the whole framework exists for.
#pragma once

#include <cstdint>

#include "data/loader.h"
#include "layers/moeut_lm.h"
#include "trainer/optimizer.h"
#include "trainer/phase_timer.h"

namespace moeut {

struct StepOptions {
  double lr = 0;
  uint64_t seed = 0;             ///< of dropout
  int64_t micro_batch_size = 0;  ///< most sequences computed at once; 0: the whole batch
  bool recompute = false;        ///< as ForwardContext's: less memory, a second forward pass
  PhaseTimer* timer = nullptr;
  RoutingTrace* record = nullptr;        ///< filled with the chosen experts, if set; for one micro-batch
  const RoutingTrace* replay = nullptr;  ///< experts to take instead of the top-k, if set; for one micro-batch
};

/// Queues forward, backward, clip and update on the model's device, without waiting for it: optimizer.read() does. The
/// batch is cut into micro-batches, each at most micro_batch_size sequences; the cross-entropy is divided once by the
/// batch's number of targets and the regulariser by its number of sequences, so a sum over any cut is the whole
/// batch's.
void queue_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options);
/// The same, and reads what came of it.
StepResult train_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options);

/// Sequences [first, first + count) of a batch's ids, copied to `device`: (count, T).
Tensor sequences_of(const std::vector<int32_t>& ids, int64_t seq_len, int64_t first, int64_t count, Device device);

}  // namespace moeut
