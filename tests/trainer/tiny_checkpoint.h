// A checkpoint of a few hundred bytes whose contents follow from its step.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <string>
#include <vector>

#include "trainer/checkpoint.h"

namespace moeut::testing {

class TinyCheckpoint {
 public:
  explicit TinyCheckpoint(uint64_t step, uint64_t variant = 0) : step_(step), values_(12) {
    for (size_t i = 0; i < values_.size(); ++i) values_[i] = static_cast<float>(step * 100 + variant * 10 + i) + 0.25f;
    state_ = fmt::format("{{\"step\":{},\"variant\":{}}}", step, variant);
  }

  /// Points into this object.
  CheckpointContent content() const {
    CheckpointContent content;
    content.model = {{"b", SafetensorType::kF32, {2, 3}, values_.data()},
                     {"a", SafetensorType::kF32, {2}, nullptr, [this](uint64_t offset, void* out, size_t bytes) {
                        std::memcpy(out, reinterpret_cast<const char*>(values_.data() + 6) + offset, bytes);
                      }}};
    content.optimizer = {{"a.exp_avg", SafetensorType::kF32, {2}, values_.data() + 8},
                         {"a.exp_avg_sq", SafetensorType::kF32, {2}, values_.data() + 10}};
    content.state_json = state_;
    content.config_yaml = "seed: 1\n";
    content.config_hash = "config";
    content.tokenizer_sha256 = "tokenizer";
    content.data_fingerprint = "data";
    content.step = step_;
    return content;
  }

  /// Empty if `loaded` is this checkpoint bit for bit, else what differs.
  std::string difference(const LoadedCheckpoint& loaded) const {
    if (loaded.step() != step_) return "step";
    if (loaded.state_json() != state_) return "state.json";
    if (loaded.config_yaml() != "seed: 1\n") return "config.yaml";
    const auto differs = [](const SafetensorsFile& file, const char* name, std::vector<int64_t> shape,
                            const float* expected) {
      std::vector<float> found(static_cast<size_t>(shape.size() == 2 ? shape[0] * shape[1] : shape[0]));
      file.copy(name, SafetensorType::kF32, shape, found.data());
      return std::memcmp(found.data(), expected, found.size() * sizeof(float)) != 0;
    };
    if (differs(loaded.model(), "b", {2, 3}, values_.data())) return "b";
    if (differs(loaded.model(), "a", {2}, values_.data() + 6)) return "a";
    if (differs(loaded.optimizer(), "a.exp_avg", {2}, values_.data() + 8)) return "a.exp_avg";
    if (differs(loaded.optimizer(), "a.exp_avg_sq", {2}, values_.data() + 10)) return "a.exp_avg_sq";
    return "";
  }

 private:
  uint64_t step_;
  std::vector<float> values_;
  std::string state_;
};

}  // namespace moeut::testing
