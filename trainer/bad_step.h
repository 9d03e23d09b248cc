// What went wrong in a step whose loss or gradient was not finite.
#pragma once

#include <optional>
#include <string>

#include "trainer/train_step.h"

namespace moeut {

/// The first tensor that is not finite when the batch is computed again on the present weights, without an update:
/// "parameter NAME (element 3 of 12 is nan)" or "the gradient of parameter NAME (...)", values before gradients, each
/// in the model's order; nothing if all are finite: then it is one of the step's scalars. Losses and gradients of the
/// step under way are lost.
std::optional<std::string> find_not_finite(MoeutLm& model, AdamW& optimizer, const Batch& batch,
                                           const StepOptions& options);

}  // namespace moeut
