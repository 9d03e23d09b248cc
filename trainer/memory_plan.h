// How much memory a training step takes, found without having it: a step on the meta device.
#pragma once

#include <cstdint>

#include "layers/model_config.h"
#include "layers/module.h"
#include "trainer/config.h"

namespace moeut {

/// Bytes.
struct MemoryPlan {
  size_t parameters = 0, gradients = 0, optimizer = 0;
  size_t activations = 0;  ///< the most that is there at once besides the above: saved values and workspaces
  size_t peak = 0;         ///< of all together
};

struct StepSize {
  int64_t batch_size = 1, micro_batch_size = 0, seq_len = 1;
  bool recompute = false;  ///< as StepOptions'
};

/// Counts what the caching arena would hand out. Throws ConfigError if the model is not possible. On `options.device`
/// cpu several micro-batches are added up as the trainer does it there (trainer/exact_reduction.h), which counts as
/// gradients.
MemoryPlan plan_memory(const ModelConfig& model, ModuleOptions options, const OptimizerSection& optimizer,
                       const StepSize& size);

}  // namespace moeut
