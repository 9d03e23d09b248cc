// From a configuration to the model's arguments and the opened data, checked against each other.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "data/corpora.h"
#include "data/tokenizer.h"
#include "layers/model_config.h"
#include "layers/module.h"
#include "trainer/config.h"

namespace moeut {

/// The profile's values, those of model.* over them. n_tokens: model.n_tokens if that is not 0, else `vocabulary`.
/// Throws ConfigError naming every argument that does not fit.
ModelConfig model_config(const ModelSection& section, int64_t vocabulary);

/// The reverse: every value stated, so that a saved configuration does not depend on what a profile means later.
void state_model(ModelSection& section, const ModelConfig& model);

/// The types that a model has in a precision: fp64 is f64 throughout; tf32, bf16 and fp16 keep parameters, gradients
/// and the residual stream in f32 and compute matrix products on operands of their own type.
ModuleOptions module_options(Precision precision, Device device);

/// config.device, found. Throws ConfigError if this build or machine does not have it.
Device find_device(const std::string& name);

/// Whether train.cuda_graph = `choice` has steps on `device` recorded (trainer/step_graph.h): auto on every CUDA
/// device. Throws ConfigError for `on` where that is not possible.
bool uses_graph(CudaGraph choice, Device device);

struct RunInputs {
  ModelConfig model;
  std::shared_ptr<const TokenDataset> train;       // the first corpus
  std::vector<Corpus> corpora;                     // data.train and those of data.mix
  std::shared_ptr<const TokenDataset> validation;  // null: none
  std::optional<Tokenizer> tokenizer;
};

/// Opens data.* and resolves the model. Throws IoError if data are missing or damaged, were written with different
/// tokenizers, or hold ids that the model does not have.
RunInputs open_inputs(const RunConfig& config);

}  // namespace moeut
