// The JSON attributes of golden files: the model's constructor arguments and the optimizer of a trajectory.
#pragma once

#include <string_view>

#include "layers/model_config.h"
#include "trainer/config.h"

namespace moeut {

/// Constructor arguments under their official names; one that is absent or null keeps its default. Throws IoError for
/// an argument that the model does not have (with a did-you-mean) or a value that it does not take.
ModelConfig golden_model_config(std::string_view json, bool language_model);

struct GoldenOptimizer {
  OptimizerSection optimizer;  ///< grad_clip 0: no clipping
  ScheduleSection schedule;
};

/// {"name": "adamw", "lr", "betas": [b1, b2], "eps", "weight_decay", "grad_clip" (null: none), "warmup_steps",
/// "min_lr_multiplier", "decay": "all parameters"}. Throws IoError for anything else.
GoldenOptimizer golden_optimizer(std::string_view json);

}  // namespace moeut
