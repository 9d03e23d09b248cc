#include "trainer/run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "data/hash.h"
#include "trainer/config_print.h"
#include "trainer/resume.h"
#include "trainer/resume_check.h"
#include "trainer/threads.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

std::unique_ptr<Loader> make_loader(std::vector<Corpus> corpora, const RunConfig& config, SampleOrder order,
                                    int64_t seq_len) {
  return std::make_unique<Loader>(
      std::move(corpora), LoaderOptions{.seed = config.seed,
                                        .seq_len = seq_len,
                                        .order = order,
                                        .lanes = config.data.lanes,
                                        .packing = config.data.packing,
                                        .document_mask = config.data.document_mask,
                                        .prefetch = static_cast<int>(std::max<int64_t>(config.data.prefetch, 1))});
}

RetentionOptions retention_of(const CheckpointSection& checkpoint) {
  return {.keep_last = static_cast<uint64_t>(checkpoint.keep_last),
          .keep_every = static_cast<uint64_t>(checkpoint.keep_every),
          .keep_best = static_cast<uint64_t>(checkpoint.keep_best)};
}

/// Rows of an earlier run that begins anew are kept under another name.
void set_rows_aside(const stdfs::path& path) {
  std::error_code error;
  if (stdfs::file_size(path, error) == 0 || error) return;
  stdfs::path aside;
  for (int i = 1; aside.empty() || stdfs::exists(aside, error); ++i) {
    aside = path.parent_path() / fmt::format("{}.aside-{}{}", path.stem().string(), i, path.extension().string());
  }
  FileSystem::posix().rename(path, aside);
  spdlog::info("rows of an earlier run are now in '{}'", aside.string());
}

}  // namespace

Run::Run(const LoadedConfig& loaded, const std::string& resume, bool force)
    : config(loaded.config),
      inputs(open_inputs(config)),
      store_(FileSystem::posix(), config.run.dir, retention_of(config.checkpoint)) {
  state_model(config.model, inputs.model);
  if (config.train.threads > 0) set_cpu_threads(config.train.threads);
  training_data = make_loader(inputs.corpora, config, config.data.order, config.train.seq_len);
  const int64_t eval_len = config.eval.seq_len > 0 ? config.eval.seq_len : config.train.seq_len;
  if (inputs.validation)
    validation_data = make_loader({{inputs.validation}}, config, SampleOrder::sequential, eval_len);
  const Device device = find_device(config.device);
  cuda_graph = uses_graph(config.train.cuda_graph, device);
  model = std::make_unique<MoeutLm>(inputs.model, config.seed, module_options(config.train.precision, device));
  optimizer = std::make_unique<AdamW>(config.optimizer, model->parameters());
  if (config.train.precision == Precision::fp16) optimizer->scale_losses();
  start_or_resume(resume, force);
}

void Run::start_or_resume(const std::string& resume, bool force) {
  const ResumeDecision decision = decide_resume(store_, resume);
  resumed_ = decision.checkpoint.has_value();
  const size_t reasons = decision.messages.size() - (resumed_ ? 1 : 0);  // the last one says that it is taken
  for (size_t i = 0; i < reasons; ++i) spdlog::info(decision.messages[i]);
  if (!resumed_) {
    state.validation_due = validation_data != nullptr && config.eval.every > 0;
    return;
  }
  const LoadedCheckpoint& checkpoint = *decision.checkpoint;
  const auto changes =
      check_resume(checkpoint, config, inputs.train->tokenizer_sha256(), training_data->fingerprint(), force);
  spdlog::info(decision.messages.back());
  for (const std::string& change : changes) spdlog::info("changed since the checkpoint: {}", change);
  state = restore(checkpoint, *model, *optimizer);
  std::error_code error;
  if (stdfs::equivalent(checkpoint.folder(), store_.folder_of(checkpoint.step()), error)) saved_ = state;
}

void Run::open_folder(Log& log) {
  const stdfs::path& dir = config.run.dir;
  require_writable_folder(dir, "choose another run.dir");
  FileSystem::posix().make_directories(dir);
  lock_.emplace(dir, "another process trains in this run folder; wait for it or choose another run.dir");
  log.open_file(dir / "train.log");
  for (const char* name : {"metrics.jsonl", "samples.jsonl"}) {
    if (!resumed_) set_rows_aside(dir / name);
  }
  metrics.emplace(dir / "metrics.jsonl", state.step, state.validation_due ? "val_loss" : "");
  samples.emplace(dir / "samples.jsonl", state.step, state.sample_due ? "text" : "");
  if (config.log.tensorboard) tensorboard.emplace(dir / "tensorboard", state.step);
  const auto newest = resumed_ ? std::optional(static_cast<uint64_t>(state.step)) : std::nullopt;
  for (const stdfs::path& aside : store_.set_aside_newer_than(newest)) {
    spdlog::info("a checkpoint of a future that is given up is now in '{}'", aside.string());
  }
  write_file_atomically(FileSystem::posix(), dir / "config.yaml", config_yaml(config));
}

CheckpointContent Run::content() const {
  CheckpointContent content;
  add_tensors(content, *model, *optimizer);
  content.state_json = state.to_json();
  content.config_yaml = config_yaml(config);
  content.config_hash = sha256_hex(content.config_yaml);
  content.tokenizer_sha256 = inputs.train->tokenizer_sha256();
  content.data_fingerprint = training_data->fingerprint();
  content.step = static_cast<uint64_t>(state.step);
  if (state.validation_loss && std::isfinite(*state.validation_loss)) content.validation_loss = state.validation_loss;
  return content;
}

void Run::save(Save kind) {
  attempt(
      [&] {
        if (const auto earlier = saver_.wait()) report(*earlier);
      },
      kind);
  state.optimizer = optimizer->state();
  if (saved_ == state) return;
  attempt(
      [&] {
        // A resumed run keeps the rows up to its checkpoint, so they must be as durable as it.
        metrics->sync();
        samples->sync();
        if (kind == Save::on_the_way && config.checkpoint.async) {
          saver_.begin(copy_of(content()));
        } else {
          SavedCheckpoint saved;
          saved.folder = store_.save(content(), &saved.warnings);
          report(saved);
        }
        saved_ = state;
      },
      kind);
}

void Run::look_at_save() {
  attempt(
      [&] {
        if (const auto saved = saver_.take_if_done()) report(*saved);
      },
      Save::on_the_way);
}

void Run::report(const SavedCheckpoint& saved) const {
  for (const std::string& warning : saved.warnings) spdlog::warn(warning);
  spdlog::info("saved '{}'", saved.folder.string());
}

/// Does what may fail for want of disk space or such.
void Run::attempt(const std::function<void()>& action, Save kind) {
  try {
    action();
  } catch (const IoError& error) {
    saved_.reset();
    if (kind == Save::last || config.checkpoint.on_failure == SaveFailure::stop) throw;
    spdlog::warn("not saved: {}; older checkpoints are as they were, training goes on (checkpoint.on_failure)",
                 error.what());
  }
}

void Run::save_before_bad_steps(const TrainingState& good) {
  OptimizerState decisions = optimizer->state();
  decisions.bad_in_row = 0;
  optimizer->restore(decisions);
  if (const auto earlier = saver_.wait()) report(*earlier);
  if (saved_ && saved_->step >= good.step) return;
  state = good;
  save(Save::last);
}

}  // namespace moeut
