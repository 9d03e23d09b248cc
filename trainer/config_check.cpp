#include "trainer/config_check.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "data/corpora.h"
#include "trainer/config_fields.h"

namespace moeut {
namespace {

using Problems = std::vector<ConfigProblem>;

void check_required(const LoadedConfig& loaded, Problems& problems) {
  for (const Field& field : config_fields()) {
    if (!field.required) continue;
    const bool empty = value_text(field.get(loaded.config)).empty();
    if (!loaded.is_set(field.key)) {
      problems.push_back({field.key, fmt::format("required, but not given: {}", field.help)});
    } else if (empty) {
      problems.push_back({field.key, fmt::format("may not be empty: {}", field.help)});
    }
  }
}

void check_model_is_complete(const LoadedConfig& loaded, Problems& problems) {
  if (loaded.config.model.profile != "none") return;
  for (const char* key :
       {"model.d_model", "model.n_layers", "model.n_heads", "model.ff_n_experts", "model.att_n_experts"}) {
    if (loaded.is_set(key)) continue;
    problems.push_back({key, fmt::format("required without a model.profile, but not given: {}", find_field(key)->help),
                        "model.profile"});
  }
}

/// Only values that are known here are compared; what a profile brings is checked where the model is built.
void check_model(const LoadedConfig& loaded, Problems& problems) {
  const ModelSection& model = loaded.config.model;
  const bool own = model.profile == "none";
  const auto known = [&](std::optional<int64_t> value, int64_t fallback) {
    return !value && own ? std::optional<int64_t>(fallback) : value;
  };
  const auto group_size = known(model.group_size, 2), ff_k = known(model.ff_k, 8), att_k = known(model.att_k, 2);
  if (model.n_layers && group_size && *model.n_layers % *group_size != 0) {
    problems.push_back({"model.n_layers",
                        fmt::format("{} is not a multiple of model.group_size = {}", *model.n_layers, *group_size),
                        "model.group_size"});
  }
  if (model.ff_n_experts && ff_k && *ff_k > *model.ff_n_experts) {
    problems.push_back(
        {"model.ff_k",
         fmt::format("{} experts cannot be chosen of model.ff_n_experts = {}", *ff_k, *model.ff_n_experts),
         "model.ff_n_experts"});
  }
  if (model.att_n_experts.value_or(1) > 1 && att_k && *att_k > *model.att_n_experts) {
    problems.push_back(
        {"model.att_k",
         fmt::format("{} experts cannot be chosen of model.att_n_experts = {}", *att_k, *model.att_n_experts),
         "model.att_n_experts"});
  }
  if (model.d_head.value_or(0) == 0 && model.d_model && model.n_heads && *model.n_heads > *model.d_model) {
    problems.push_back({"model.n_heads",
                        fmt::format("{} heads leave none of model.d_model = {} to a head; set model.d_head",
                                    *model.n_heads, *model.d_model),
                        "model.d_model"});
  }
}

void check_data(const LoadedConfig& loaded, Problems& problems) {
  const DataSection& data = loaded.config.data;
  try {
    parse_mix(data.mix);
  } catch (const ConfigError& error) {
    problems.push_back({"data.mix", error.what()});
  }
  const bool both = loaded.is_set("data.shuffle") && loaded.is_set("data.order");
  if (both && data.shuffle != (data.order == SampleOrder::shuffled)) {
    problems.push_back({"data.shuffle",
                        fmt::format("{} contradicts data.order = {}; data.order alone is enough", data.shuffle,
                                    value_text(find_field("data.order")->get(loaded.config))),
                        "data.order"});
  }
}

void check_schedule(const LoadedConfig& loaded, Problems& problems) {
  const ScheduleSection& schedule = loaded.config.schedule;
  const int64_t steps = loaded.config.train.steps;
  if (schedule.name != ScheduleKind::wsd) return;
  if (schedule.decay_steps == 0)
    problems.push_back({"schedule.decay_steps",
                        "schedule.name = wsd needs it: the steps at the end over which the "
                        "learning rate falls, often a tenth of train.steps",
                        "schedule.name"});
  if (steps > 0 && schedule.decay_steps > 0 && schedule.warmup_steps + schedule.decay_steps > steps)
    problems.push_back({"schedule.decay_steps",
                        fmt::format("{} and schedule.warmup_steps = {} are more than train.steps = {}",
                                    schedule.decay_steps, schedule.warmup_steps, steps),
                        "train.steps"});
}

void check_rendezvous(const LoadedConfig& loaded, Problems& problems) {
  const std::string& way = loaded.config.train.rendezvous;
  const auto has = [&](const char* prefix, size_t least) { return way.starts_with(prefix) && way.size() > least; };
  if (way == "auto" || way == "mpi" || has("file:", 5)) return;
  if (has("tcp:", 4) && way.find(':', 4) != std::string::npos) return;
  problems.push_back({"train.rendezvous", fmt::format("'{}' is not auto, mpi, tcp:HOST:PORT or file:PATH", way)});
}

/// A key that is given, but not looked at.
void warn_idle(const LoadedConfig& loaded, const char* key, bool used, const char* why,
               std::vector<std::string>& warnings) {
  if (loaded.is_set(key) && !used) warnings.push_back(fmt::format("{} has no effect: {}", key, why));
}

/// With n values in the window z is at most √(n - 1).
void check_spikes(const LoadedConfig& loaded, Problems& problems) {
  const OptimizerSection& optimizer = loaded.config.optimizer;
  const double most = std::sqrt(static_cast<double>(optimizer.spike_window - 1));
  if (optimizer.spike_z > 0 && optimizer.spike_z >= most)
    problems.push_back({"optimizer.spike_z",
                        fmt::format("{} is never passed: with optimizer.spike_window = {} no value is more than {:.2f} "
                                    "standard deviations above the mean",
                                    optimizer.spike_z, optimizer.spike_window, most),
                        "optimizer.spike_window"});
}

void warn_long_cadences(const LoadedConfig& loaded, std::vector<std::string>& warnings) {
  const RunConfig& config = loaded.config;
  const auto warn_if_longer = [&](const char* key, int64_t steps, const char* effect) {
    if (steps <= config.train.steps || !loaded.is_set(key)) return;
    warnings.push_back(
        fmt::format("{} = {} is longer than the run of train.steps = {}: {}", key, steps, config.train.steps, effect));
  };
  warn_if_longer("schedule.warmup_steps", config.schedule.warmup_steps, "the learning rate never reaches its peak");
  warn_if_longer("checkpoint.every", config.checkpoint.every, "the only checkpoint is the one at the end");
  warn_if_longer("sample.every", config.sample.every, "no sample is written before the end");
  warn_if_longer("log.every", config.log.every, "only the last step is logged");
  if (!config.data.validation.empty())
    warn_if_longer("eval.every", config.eval.every, "it validates only before and after it");
}

}  // namespace

std::vector<ConfigProblem> find_problems(const LoadedConfig& loaded) {
  Problems problems;
  check_required(loaded, problems);
  check_model_is_complete(loaded, problems);
  check_model(loaded, problems);
  check_data(loaded, problems);
  check_schedule(loaded, problems);
  check_spikes(loaded, problems);
  check_rendezvous(loaded, problems);
  if (loaded.config.sample.every > 0 && loaded.config.data.tokenizer.empty()) {
    problems.push_back(
        {"sample.every", "sample texts need data.tokenizer; set it, or sample.every to 0", "data.tokenizer"});
  }
  return problems;
}

std::vector<std::string> find_warnings(const LoadedConfig& loaded) {
  std::vector<std::string> warnings;
  const RunConfig& config = loaded.config;
  warn_long_cadences(loaded, warnings);
  if (config.data.validation.empty() && loaded.is_set("eval.every") && config.eval.every > 0) {
    warnings.push_back("eval.every has no effect: no data.validation is given");
  }
  warn_idle(loaded, "data.lanes", config.data.order == SampleOrder::lanes, "data.order is not lanes", warnings);
  warn_idle(loaded, "schedule.decay_steps", config.schedule.name == ScheduleKind::wsd, "schedule.name is not wsd",
            warnings);
  warn_idle(loaded, "schedule.decay_shape", config.schedule.name == ScheduleKind::wsd, "schedule.name is not wsd",
            warnings);
  warn_idle(loaded, "schedule.cosine_over", config.schedule.name == ScheduleKind::cosine, "schedule.name is not cosine",
            warnings);
  const bool validated = config.eval.every > 0 && !config.data.validation.empty();
  warn_idle(loaded, "checkpoint.keep_best", validated || config.checkpoint.keep_best == 0, "nothing is validated",
            warnings);
  for (const char* key : {"optimizer.spike_window", "optimizer.spike_action"})
    warn_idle(loaded, key, config.optimizer.spike_z > 0, "optimizer.spike_z is 0", warnings);
  if (config.data.document_mask && config.data.packing == Packing::document) {
    warnings.push_back("data.document_mask has no effect: with data.packing = document a sequence holds one document");
  }
  if (!config.data.train.empty() && config.data.train == config.data.validation) {
    warnings.push_back("data.validation is the folder of data.train: the validation loss will not show overfitting");
  }
  return warnings;
}

}  // namespace moeut
