// A training run that takes a second: data of a few hundred sequences and a model with every kind of layer.
#pragma once

#include <csignal>
#include <filesystem>
#include <string>
#include <vector>

#include "data/tokenize.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"
#include "trainer/training_loop.h"

namespace moeut::testing {

/// Data made once for all tests of a process.
class TinyData {
 public:
  static const TinyData& get() {
    static const TinyData data;
    return data;
  }
  const std::filesystem::path& folder() const { return scratch_.path(); }

 private:
  TinyData() {
    const auto model = small_tokenizer(folder());
    std::filesystem::rename(model, folder() / "tokenizer.model");
    const auto text = write_text(folder() / "text.txt", prose(1500));
    TokenizeOptions options;
    options.reader.unit = DocumentUnit::kLine;
    options.separator = {Separator::Kind::kEos, ""};
    options.validation_ratio = 0.1;
    tokenize(Tokenizer::load(folder() / "tokenizer.model"), {text}, folder() / "shards", options);
  }
  ScratchFolder scratch_;
};

/// Dropout of every kind, two micro-batches of unequal size a step, a checkpoint at every step and an epoch of about 40
/// steps.
inline LoadedConfig tiny_config(const std::filesystem::path& run_dir, std::vector<std::string> overrides = {}) {
  const std::string data = TinyData::get().folder().string();
  const std::string yaml = "run: {dir: " + run_dir.string() + "}\n" + "data: {train: " + data +
                           "/shards/train, validation: " + data + "/shards/validation, tokenizer: " + data +
                           "/tokenizer.model}\n" + R"(
model: {d_model: 16, n_layers: 4, n_heads: 2, ff_n_experts: 4, ff_expert_size: 8, ff_k: 2, att_n_experts: 3,
        dropout: 0.1, ff_expert_dropout: 0.1, att_expert_dropout: 0.1}
train: {steps: 12, batch_size: 3, micro_batch_size: 2, seq_len: 8}
optimizer: {lr: 0.01}
schedule: {warmup_steps: 3}
checkpoint: {every: 1, keep_last: 1000}
eval: {every: 5, sequences: 4}
sample: {every: 6, length: 5}
log: {every: 1}
)";
  return parse_config(yaml, "tiny.yaml", overrides);
}

/// Nobody reads what runs say while it lives.
class Silence {
 public:
  Silence() : terminal_(std::make_shared<Terminal>(sink_.get(), false)), log_(terminal_) {}
  const std::shared_ptr<Terminal>& terminal() const { return terminal_; }
  Log& log() { return log_; }

 private:
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> sink_{std::fopen("/dev/null", "w"), std::fclose};
  std::shared_ptr<Terminal> terminal_;
  Log log_;
};

/// What moeut-train does.
inline TrainingLoop::End train(const LoadedConfig& loaded, const std::string& resume = "auto",
                               StopRequest* request = nullptr) {
  Silence silence;
  std::optional<StopRequest> own;
  if (request == nullptr) request = &own.emplace();
  Run run(loaded, resume);
  run.open_folder(silence.log());
  Progress progress(silence.terminal(), {.first_step = run.state.step, .steps = run.config.train.steps});
  return TrainingLoop(run, *request, silence.log(), progress).run();
}

inline std::filesystem::path checkpoint_folder(const std::filesystem::path& run_dir, int step) {
  return run_dir / "checkpoints" / fmt::format("step-{:08}", step);
}

/// Rows of a metrics file without the fields of time.
inline std::vector<std::string> rows(const std::filesystem::path& file) {
  std::vector<std::string> all;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const Json row = Json::parse(line);
    Json::Object kept;
    for (const auto& [key, value] : row.as_object()) {
      if (key != "tokens_per_s" && key != "step_ms") kept.emplace_back(key, value);
    }
    all.push_back(Json(kept).dump());
  }
  return all;
}

}  // namespace moeut::testing
