// All that a run is, between two steps, besides its configuration: what a checkpoint holds.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "layers/module.h"
#include "trainer/checkpoint.h"
#include "trainer/optimizer.h"

namespace moeut {

/// Everything random is a function of seed, step and sample index, and so is the order of the data: these few numbers,
/// the parameters and the moments are the whole state.
struct TrainingState {
  int64_t step = 0;          ///< optimizer steps done
  uint64_t next_sample = 0;  ///< global index of the first sequence not trained on yet
  uint64_t tokens = 0;       ///< target tokens trained on
  OptimizerState optimizer;  ///< as it was when the state was last saved or restored
  // What is due at this step and not done yet: a run may be stopped in the middle of it.
  bool validation_due = false;
  bool sample_due = false;
  std::optional<double> validation_loss = std::nullopt;  ///< at this step, if it was validated

  bool operator==(const TrainingState&) const = default;
  std::string to_json() const;
  /// Throws IoError, which names `what`, if a field is missing or out of range.
  static TrainingState parse(std::string_view json, std::string_view what);
};

/// The tensors of a checkpoint of model and optimizer, as views: valid while both live and do not change. Where the
/// optimizer is sharded this is collective, its tensors are copies, and only rank 0 gets them.
void add_tensors(CheckpointContent& content, Module& model, AdamW& optimizer);

/// Copies a checkpoint's tensors into model and optimizer, and returns its state. Throws IoError naming the checkpoint
/// and every tensor that is missing, left over or of another shape or type; nothing is changed then.
TrainingState restore(const LoadedCheckpoint& checkpoint, Module& model, AdamW& optimizer);

}  // namespace moeut
