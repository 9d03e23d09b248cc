#include "trainer/training_state.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <set>

#include "core/check.h"
#include "data/json.h"
#include "kernels/optimizer.h"

namespace moeut {
namespace {

constexpr uint64_t kVersion = 1;

SafetensorType type_of(const Tensor& tensor) {
  return tensor.dtype() == DType::f64 ? SafetensorType::kF64 : SafetensorType::kF32;
}

std::vector<int64_t> extents_of(const Tensor& tensor) {
  const auto extents = tensor.shape().extents();
  return {extents.begin(), extents.end()};
}

/// The bytes of a tensor of their own.
TensorBytes copied_bytes(std::string name, const Tensor& tensor) {
  TensorBytes bytes{.name = std::move(name), .type = type_of(tensor), .shape = extents_of(tensor)};
  bytes.fill = [host = tensor.to(Device::cpu())](uint64_t offset, void* out, size_t count) {
    std::memcpy(out, static_cast<const char*>(host.raw()) + offset, count);
  };
  return bytes;
}

TensorBytes bytes_of(std::string name, const Tensor& tensor) {
  TensorBytes bytes{.name = std::move(name), .type = type_of(tensor), .shape = extents_of(tensor)};
  if (tensor.device().is_cpu() && tensor.dense()) {
    bytes.data = tensor.raw();
    return bytes;
  }
  return copied_bytes(bytes.name, tensor);
}

/// The tensors that one file of a checkpoint must hold, and where they go.
class Expected {
 public:
  explicit Expected(const SafetensorsFile& file) : file_(file) {}

  /// Elements from `begin` on of a tensor like `whole` go to `tensor`, none if that is undefined.
  void add(const std::string& name, const Tensor& whole, const Tensor& tensor, int64_t begin = 0) {
    names_.insert(name);
    targets_.push_back({name, whole, tensor, begin});
    const SafetensorInfo* found = file_.find(name);
    if (found == nullptr) {
      problems_ += fmt::format("\n  {} is missing", name);
    } else if (found->type != type_of(whole) || found->shape != extents_of(whole)) {
      problems_ += fmt::format("\n  {} is {} ({}), this model's is {} ({})", name, safetensor_type_name(found->type),
                               fmt::join(found->shape, ", "), safetensor_type_name(type_of(whole)),
                               fmt::join(extents_of(whole), ", "));
    }
  }

  /// What does not fit; empty if all does.
  std::string problems() const {
    std::string all = problems_;
    for (const SafetensorInfo& tensor : file_.tensors()) {
      if (!names_.contains(tensor.name)) all += fmt::format("\n  {} is no tensor of this model", tensor.name);
    }
    return all;
  }

  void copy() const {
    for (const auto& [name, whole, tensor, begin] : targets_) {
      if (!tensor.defined()) continue;
      Tensor host = Tensor::empty(whole.shape(), whole.dtype());
      file_.copy(name, type_of(whole), extents_of(whole), host.raw());
      if (tensor.size() < whole.size()) host = host.reshape({host.size()}).slice(begin, tensor.size());
      Tensor target = tensor;
      target.copy_from(host.to(tensor.device()));
    }
  }

 private:
  struct Target {
    std::string name;
    Tensor whole, tensor;
    int64_t begin;
  };
  const SafetensorsFile& file_;
  std::set<std::string> names_;
  std::vector<Target> targets_;
  std::string problems_;
};

Json to_array(const std::vector<double>& values) {
  Json::Array array;
  for (const double value : values) array.emplace_back(value);
  return array;
}

std::vector<double> doubles_at(const Json& json, const char* name) {
  std::vector<double> values;
  for (const Json& value : json.at(name).as_array()) values.push_back(value.as_double());
  return values;
}

OptimizerState optimizer_state(const Json& json) {
  OptimizerState state{.updates = json.at("updates").as_int64(),
                       .scaler = {json.at("loss_scale").as_double(), json.at("good_steps").as_int64()}};
  if (const Json* bad = json.find("bad_in_row")) state.bad_in_row = bad->as_int64();
  if (const Json* steps = json.find("spike_steps")) {
    state.spike_steps = steps->as_int64();
    state.spike_losses = doubles_at(json, "spike_losses");
    state.spike_norms = doubles_at(json, "spike_norms");
    require<IoError>(state.spike_steps >= 0 && state.spike_losses.size() == state.spike_norms.size() &&
                         state.spike_losses.size() <= kernels::SpikeWindow::kMost,
                     "its windows of losses and norms do not fit together");
  }
  return state;
}

/// What this rank keeps of a parameter; undefined tensors if nothing.
AdamW::Moments moments_of(AdamW& optimizer, Parameter* parameter) {
  for (const AdamW::Moments& m : optimizer.moments())
    if (m.parameter == parameter) return m;
  return {.parameter = parameter, .exp_avg = {}, .exp_avg_sq = {}, .ema = {}};
}

/// One of a parameter's tensors that the ranks keep between them, whole, on rank 0.
TensorBytes collected(std::string name, const AdamW::Moments& own, const Tensor& part, ShardExchange& shards) {
  Tensor whole =
      Tensor::zeros(own.parameter->value.shape(), own.parameter->value.dtype(), own.parameter->value.device());
  if (part.defined()) own.part_of(whole).copy_from(part);
  shards.collect(*own.parameter, whole);
  return shards.rank() == 0 ? copied_bytes(std::move(name), whole) : TensorBytes();
}

}  // namespace

std::string TrainingState::to_json() const {
  Json::Object json{{"version", kVersion},
                    {"step", step},
                    {"next_sample", next_sample},
                    {"tokens", tokens},
                    {"updates", optimizer.updates},
                    {"loss_scale", optimizer.scaler.scale},
                    {"good_steps", optimizer.scaler.good_steps},
                    {"validation_due", validation_due},
                    {"sample_due", sample_due}};
  if (validation_loss && std::isfinite(*validation_loss)) json.emplace_back("validation_loss", *validation_loss);
  if (optimizer.bad_in_row > 0) json.emplace_back("bad_in_row", optimizer.bad_in_row);
  if (!optimizer.spike_losses.empty()) {
    json.emplace_back("spike_steps", optimizer.spike_steps);
    json.emplace_back("spike_losses", to_array(optimizer.spike_losses));
    json.emplace_back("spike_norms", to_array(optimizer.spike_norms));
  }
  return Json(std::move(json)).dump(2) + "\n";
}

TrainingState TrainingState::parse(std::string_view text, std::string_view what) {
  try {
    const Json json = Json::parse(text);
    const uint64_t version = json.at("version").as_uint64();
    require<IoError>(version == kVersion, "it has version {}, this program knows {}", version, kVersion);
    TrainingState state{.step = json.at("step").as_int64(),
                        .next_sample = json.at("next_sample").as_uint64(),
                        .tokens = json.at("tokens").as_uint64(),
                        .optimizer = optimizer_state(json),
                        .validation_due = json.at("validation_due").as_bool(),
                        .sample_due = json.at("sample_due").as_bool()};
    if (const Json* loss = json.find("validation_loss")) state.validation_loss = loss->as_double();
    require<IoError>(state.step >= 0 && state.optimizer.updates >= 0 && state.optimizer.updates <= state.step,
                     "{} steps with {} updates are not possible", state.step, state.optimizer.updates);
    return state;
  } catch (const IoError& error) {
    throw IoError(fmt::format("{}: {}", what, error.what()));
  }
}

void add_tensors(CheckpointContent& content, Module& model, AdamW& optimizer) {
  model.visit_parameters([&](Parameter& p) { content.model.push_back(bytes_of(p.name, p.value)); });
  for (Parameter* p : optimizer.parameters()) {
    const AdamW::Moments m = moments_of(optimizer, p);
    const auto bytes = [&](std::string name, const Tensor& tensor) {
      return optimizer.shards() == nullptr ? bytes_of(std::move(name), tensor)
                                           : collected(std::move(name), m, tensor, *optimizer.shards());
    };
    content.optimizer.push_back(bytes(p->name + ".exp_avg", m.exp_avg));
    content.optimizer.push_back(bytes(p->name + ".exp_avg_sq", m.exp_avg_sq));
    if (optimizer.has_ema()) content.ema.push_back(bytes(p->name, m.ema));
  }
}

TrainingState restore(const LoadedCheckpoint& checkpoint, Module& model, AdamW& optimizer) {
  const std::string folder = checkpoint.folder().string();
  const TrainingState state = TrainingState::parse(checkpoint.state_json(), folder + "/state.json");
  Expected values(checkpoint.model()), moments(checkpoint.optimizer());
  model.visit_parameters([&](Parameter& p) { values.add(p.name, p.value, p.value); });
  for (Parameter* p : optimizer.parameters()) {
    const AdamW::Moments m = moments_of(optimizer, p);
    moments.add(p->name + ".exp_avg", p->value, m.exp_avg, m.begin);
    moments.add(p->name + ".exp_avg_sq", p->value, m.exp_avg_sq, m.begin);
  }
  std::optional<Expected> averages;
  if (checkpoint.ema() && optimizer.has_ema()) {
    averages.emplace(*checkpoint.ema());
    for (Parameter* p : optimizer.parameters()) {
      const AdamW::Moments m = moments_of(optimizer, p);
      averages->add(p->name, p->value, m.ema, m.begin);
    }
  }
  const std::string problems =
      values.problems() + moments.problems() + (averages ? averages->problems() : std::string());
  require<IoError>(problems.empty(), "checkpoint '{}' is of another model than this configuration's:{}", folder,
                   problems);
  values.copy();
  moments.copy();
  model.refresh_narrow();
  averages ? averages->copy() : optimizer.reset_ema();
  optimizer.restore(state.optimizer);
  return state;
}

}  // namespace moeut
