// One optimizer step: the page that the whole framework exists for.
#pragma once

#include <cstdint>
#include <optional>

#include "data/loader.h"
#include "layers/moeut_lm.h"
#include "trainer/gradient_reduction.h"
#include "trainer/optimizer.h"
#include "trainer/phase_timer.h"
#include "trainer/step_inputs.h"
#include "trainer/watchdog.h"

namespace moeut {

struct StepOptions {
  double lr = 0;
  uint64_t seed = 0;             ///< of dropout
  int64_t micro_batch_size = 0;  ///< most sequences computed at once; 0: the whole batch
  bool recompute = false;        ///< as ForwardContext's: less memory, a second forward pass
  PhaseTimer* timer = nullptr;
  RoutingTrace* record = nullptr;        ///< filled with the chosen experts, if set; for one micro-batch
  const RoutingTrace* replay = nullptr;  ///< experts to take instead of the top-k, if set; for one micro-batch
  /// How micro-batches and ranks are added up; null: this rank is alone and its micro-batches are added in place.
  GradientReduction* reduction = nullptr;
  /// The batch of all ranks, of which this one's is a part. Not set: this rank's is all.
  std::optional<WholeBatch> whole = std::nullopt;
  /// Told what is being done, of step `step`, if set.
  Watchdog* watchdog = nullptr;
  int64_t step = 0;
};

/// Forward and backward pass over all micro-batches of the inputs: losses and gradients are added to the optimizer's,
/// or handed to the reduction.
void accumulate_gradients(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options);

/// The whole of a step's computation: forward, backward, clip and update, queued on the model's device without waiting
/// for it. The batch is computed in micro-batches; the cross-entropy is divided once by the whole batch's number of
/// targets (not counting ignored ones) and the regulariser by its number of sequences, so a sum over any cut, also one
/// between ranks, is the whole batch's. What differs from step
/// to step (ids, random state, learning rate, loss scale) is read from device memory, so that the step may be recorded
/// (trainer/step_graph.h); of the options lr, seed and micro_batch_size are not looked at.
void compute_step(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options);

/// Copies inputs and learning rate to the device and queues the step; optimizer.read() waits for it.
void queue_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options);
/// The same, and reads what came of it.
StepResult train_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options);

}  // namespace moeut
