#include "trainer/run_inputs.h"

#include "core/check.h"
#include "trainer/config_fields.h"

namespace moeut {
namespace {

/// f(key, optional in the section, field of the model) for every argument of the model.
template <class Section, class Model, class F>
void for_each_argument(Section& s, Model& m, F&& f) {
  f(s.n_tokens, m.n_tokens);
  f(s.d_model, m.d_model);
  f(s.n_layers, m.n_layers);
  f(s.n_heads, m.n_heads);
  f(s.ff_n_experts, m.ff_n_experts);
  f(s.att_n_experts, m.att_n_experts);
  f(s.d_head, m.d_head);
  f(s.group_size, m.group_size);
  f(s.ff_k, m.ff_k);
  f(s.att_k, m.att_k);
  f(s.ff_expert_size, m.ff_expert_size);
  f(s.ff_expert_dropout, m.ff_expert_dropout);
  f(s.att_expert_dropout, m.att_expert_dropout);
  f(s.dropout, m.dropout);
  f(s.entropy_reg, m.entropy_reg);
  f(s.att_entropy_reg, m.att_entropy_reg);
  f(s.rotate_fraction, m.rotate_fraction);
  f(s.rope_base, m.rope_base);
}

void check_vocabulary(const TokenDataset& data, const ModelConfig& model) {
  require<IoError>(data.vocab_size() <= model.n_tokens,
                   "the shards in '{}' have a vocabulary of {}, model.n_tokens = {} is too small for them: set it to 0 "
                   "to take that of the shards",
                   data.folder().string(), data.vocab_size(), model.n_tokens);
}

}  // namespace

ModelConfig model_config(const ModelSection& section, int64_t vocabulary) {
  ModelConfig model = section.profile == "none" ? ModelConfig() : profile(section.profile);
  for_each_argument(section, model, [](const auto& given, auto& value) { value = given.value_or(value); });
  if (section.n_tokens.value_or(0) == 0) model.n_tokens = vocabulary;
  model.validate();
  return model;
}

void state_model(ModelSection& section, const ModelConfig& model) {
  for_each_argument(section, model, [](auto& given, const auto& value) { given = value; });
}

ModuleOptions module_options(Precision precision, Device device) {
  switch (precision) {
    case Precision::fp64:
      return {.dtype = DType::f64, .device = device};
    case Precision::fp32:
      return {.dtype = DType::f32, .device = device};
    case Precision::tf32:
      return {.dtype = DType::f32, .device = device, .compute = DType::tf32};
    case Precision::bf16:
      return {.dtype = DType::f32, .device = device, .compute = DType::bf16};
    case Precision::fp16:
      return {.dtype = DType::f32, .device = device, .compute = DType::f16};
  }
  return {};
}

Device find_device(const std::string& name) {
  try {
    return Device::parse(name);
  } catch (const BackendError& error) {
    throw ConfigError(error.what());
  }
}

bool uses_graph(CudaGraph choice, Device device) {
  require<ConfigError>(choice != CudaGraph::on || device.is_cuda(),
                       "train.cuda_graph: on needs a CUDA device, but this run computes on {}; set device: cuda where "
                       "there is one, or train.cuda_graph: auto",
                       device.str());
  return choice != CudaGraph::off && device.is_cuda();
}

RunInputs open_inputs(const RunConfig& config) {
  RunInputs inputs;
  inputs.corpora = open_corpora(config.data.train, config.data.mix);
  inputs.train = inputs.corpora.front().dataset;
  inputs.model = model_config(config.model, inputs.train->vocab_size());
  for (const Corpus& corpus : inputs.corpora) check_vocabulary(*corpus.dataset, inputs.model);
  const std::string& sha256 = inputs.train->tokenizer_sha256();
  if (!config.data.validation.empty()) {
    inputs.validation = TokenDataset::open(config.data.validation);
    check_tokenizer(*inputs.validation, sha256, fmt::format("that of data.train = '{}'", config.data.train.string()));
    check_vocabulary(*inputs.validation, inputs.model);
  }
  if (!config.data.tokenizer.empty()) {
    inputs.tokenizer = Tokenizer::load_foreign(config.data.tokenizer);
    check_tokenizer(*inputs.train, inputs.tokenizer->sha256(),
                    fmt::format("data.tokenizer = '{}'", config.data.tokenizer.string()));
  }
  return inputs;
}

}  // namespace moeut
