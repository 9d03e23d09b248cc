#include "trainer/resume_check.h"

#include "core/check.h"
#include "trainer/config_fields.h"
#include "trainer/config_load.h"

namespace moeut {
namespace {

/// Why a change of the field is refused, if it is, and whether it can be forced.
struct Objection {
  std::string_view reason = "";
  bool forcible = false;
};

Objection objection_to(const Field& field, SampleOrder order) {
  const std::string& key = field.key;
  const bool of_lanes = key == "data.lanes" && order == SampleOrder::lanes;
  if (key == "seed" || key == "train.seq_len" || key == "data.order" || key == "data.packing" || of_lanes)
    return {"it decides the order of the data", true};
  if (key == "train.precision") return {"weights and optimizer state are kept in another type"};
  // The profile is only another way to write the other keys; dropout and the regularisers may be tuned in mid-run.
  const bool tunable = key == "model.profile" || key.ends_with("dropout") || key.ends_with("entropy_reg");
  if (section_of(key) == "model" && !tunable) return {"it is another model"};
  return {};
}

bool is_fp64(const FieldValue& precision) {
  return value_text(precision) == "fp64";
}

/// Where things are and how a step is cut do not matter to what is computed; data.order says what data.shuffle does.
bool is_silent(const Field& field) {
  return field.key == "run.dir" || field.key == "model.profile" || field.key == "train.threads" ||
         field.key == "train.cuda_graph" || field.key == "data.prefetch" || field.key == "data.shuffle" ||
         field.key == "log.tensorboard" || field.key == "checkpoint.async" || field.key == "checkpoint.on_failure" ||
         field.key == "train.shard_optimizer" || field.key == "train.watchdog_seconds" ||
         field.key == "train.rendezvous" || field.key == "log.every_rank";
}

RunConfig saved_config(const LoadedCheckpoint& checkpoint) {
  const std::string name = (checkpoint.folder() / "config.yaml").string();
  try {
    return parse_config(checkpoint.config_yaml(), name).config;
  } catch (const ConfigError& error) {
    throw IoError(fmt::format("checkpoint '{}' holds a configuration that this program does not understand:\n{}",
                              checkpoint.folder().string(), error.what()));
  }
}

std::string shown(const FieldValue& value) {
  const std::string text = value_text(value);
  return text.empty() ? "not set" : text;
}

}  // namespace

std::vector<std::string> check_resume(const LoadedCheckpoint& checkpoint, const RunConfig& now,
                                      const std::string& tokenizer_sha256, const std::string& data_fingerprint,
                                      bool force) {
  const RunConfig before = saved_config(checkpoint);
  std::vector<std::string> refused, allowed;
  bool forcible = true;  // all that is refused
  const auto object = [&](std::string change, bool can_be_forced) {
    if (force && can_be_forced) return allowed.push_back("forced: " + change);
    forcible = forcible && can_be_forced;
    refused.push_back(std::move(change));
  };
  for (const Field& field : config_fields()) {
    const FieldValue was = field.get(before), is = field.get(now);
    if (value_text(was) == value_text(is) || is_silent(field)) continue;
    const bool same_type = field.key == "train.precision" && is_fp64(was) == is_fp64(is);
    const Objection objection = same_type ? Objection() : objection_to(field, now.data.order);
    const std::string change = fmt::format("{}: {} there, {} now", field.key, shown(was), shown(is));
    if (objection.reason.empty())
      allowed.push_back(change);
    else
      object(fmt::format("{} ({})", change, objection.reason), objection.forcible);
  }
  const CheckpointManifest& manifest = checkpoint.manifest();
  if (manifest.tokenizer_sha256 != tokenizer_sha256) {
    object(
        fmt::format("the tokenizer of the data: SHA-256 {} there, {} now", manifest.tokenizer_sha256, tokenizer_sha256),
        true);
  }
  if (manifest.data_fingerprint != data_fingerprint) {
    object(fmt::format("the contents of data.train and data.mix, or their shares: fingerprint {} there, {} now",
                       manifest.data_fingerprint, data_fingerprint),
           true);
  }
  // One mistake, one line; several get a line each.
  const char* between = refused.size() > 1 ? "\n  " : " ";
  require<IoError>(refused.empty(),
                   "checkpoint '{}' does not fit this configuration; choose another run.dir, {}or start anew with "
                   "--resume no:{}{}",
                   checkpoint.folder().string(), forcible ? "go on all the same with --force, " : "", between,
                   fmt::join(refused, between));
  return allowed;
}

}  // namespace moeut
