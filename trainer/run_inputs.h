// From a configuration to the model's arguments and the opened data, checked against each other.
#pragma once

#include <memory>
#include <optional>

#include "core/device.h"
#include "core/dtype.h"
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "layers/model_config.h"
#include "trainer/config.h"

namespace moeut {

/// The profile's values, those of model.* over them. n_tokens: model.n_tokens if that is not 0, else `vocabulary`.
/// Throws ConfigError naming every argument that does not fit.
ModelConfig model_config(const ModelSection& section, int64_t vocabulary);

/// The reverse: every value stated, so that a saved configuration does not depend on what a profile means later.
void state_model(ModelSection& section, const ModelConfig& model);

/// f32, or f64 for fp64. Throws ConfigError for a precision that this version cannot compute in.
DType dtype_of_precision(Precision precision);

/// config.device, found. Throws ConfigError if this build or machine does not have it.
Device find_device(const std::string& name);

struct RunInputs {
  ModelConfig model;
  std::shared_ptr<const TokenDataset> train;
  std::shared_ptr<const TokenDataset> validation;  // null: none
  std::optional<Tokenizer> tokenizer;
};

/// Opens data.* and resolves the model. Throws IoError if data are missing or damaged, were written with different
/// tokenizers, or hold ids that the model does not have.
RunInputs open_inputs(const RunConfig& config);

}  // namespace moeut
