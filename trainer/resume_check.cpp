#include "trainer/resume_check.h"

#include "core/check.h"
#include "trainer/config_fields.h"
#include "trainer/config_load.h"

namespace moeut {
namespace {

/// Why a change of the field is refused; empty: it may change.
std::string_view reason_against(const Field& field, SampleOrder order) {
  const std::string& key = field.key;
  const bool of_lanes = key == "data.lanes" && order == SampleOrder::lanes;
  if (key == "seed" || key == "train.seq_len" || key == "data.order" || key == "data.packing" || of_lanes)
    return "it decides the order of the data";
  if (key == "train.precision") return "weights and optimizer state are kept in another type";
  // The profile is only another way to write the other keys; dropout and the regularisers may be tuned in mid-run.
  const bool tunable = key == "model.profile" || key.ends_with("dropout") || key.ends_with("entropy_reg");
  return section_of(key) == "model" && !tunable ? "it is another model" : "";
}

bool is_fp64(const FieldValue& precision) {
  return value_text(precision) == "fp64";
}

/// Where things are and how a step is cut do not matter to what is computed; data.order says what data.shuffle does.
bool is_silent(const Field& field) {
  return field.key == "run.dir" || field.key == "model.profile" || field.key == "train.threads" ||
         field.key == "train.cuda_graph" || field.key == "data.prefetch" || field.key == "data.shuffle";
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
                                      const std::string& tokenizer_sha256, const std::string& data_fingerprint) {
  const RunConfig before = saved_config(checkpoint);
  std::vector<std::string> refused;
  std::vector<std::string> allowed;
  for (const Field& field : config_fields()) {
    const FieldValue was = field.get(before), is = field.get(now);
    if (value_text(was) == value_text(is) || is_silent(field)) continue;
    const bool same_type = field.key == "train.precision" && is_fp64(was) == is_fp64(is);
    const std::string_view reason = same_type ? "" : reason_against(field, now.data.order);
    const std::string change = fmt::format("{}: {} there, {} now", field.key, shown(was), shown(is));
    if (reason.empty()) {
      allowed.push_back(change);
    } else {
      refused.push_back(fmt::format("{} ({})", change, reason));
    }
  }
  const CheckpointManifest& manifest = checkpoint.manifest();
  if (manifest.tokenizer_sha256 != tokenizer_sha256) {
    refused.push_back(fmt::format("the tokenizer of the data: SHA-256 {} there, {} now", manifest.tokenizer_sha256,
                                  tokenizer_sha256));
  }
  if (manifest.data_fingerprint != data_fingerprint) {
    refused.push_back(
        fmt::format("the contents of data.train and data.mix, or their shares: fingerprint {} there, {} now",
                    manifest.data_fingerprint, data_fingerprint));
  }
  // One mistake, one line; several get a line each.
  const char* between = refused.size() > 1 ? "\n  " : " ";
  require<IoError>(refused.empty(),
                   "checkpoint '{}' does not fit this configuration; choose another run.dir, or start anew with "
                   "--resume no:{}{}",
                   checkpoint.folder().string(), between, fmt::join(refused, between));
  return allowed;
}

}  // namespace moeut
