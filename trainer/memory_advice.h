// What to lower, and to what, when a training step does not fit.
#pragma once

#include <string>

#include "layers/model_config.h"
#include "layers/module.h"
#include "trainer/config.h"

namespace moeut {

/// The step of `config` is planned (plan_memory) as it is, then with halved train.micro_batch_size, each with and
/// without train.recompute. Says how much it needs, and the settings with the largest micro-batch that fit into
/// `budget` bytes, a twentieth of which is left to what no plan knows; or, if none does, what is left to lower.
std::string memory_advice(const RunConfig& config, const ModelConfig& model, const ModuleOptions& modules,
                          size_t budget);

}  // namespace moeut
