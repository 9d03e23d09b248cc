#include "trainer/run.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>

#include "core/check.h"
#include "data/hash.h"
#include "trainer/config_print.h"
#include "trainer/device_reduction.h"
#include "trainer/exact_reduction.h"
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

/// XXH3 of all values, parameter by parameter.
std::string hash_of_values(MoeutLm& model) {
  Xxh3 hash;
  model.visit_parameters([&](Parameter& p) {
    const Tensor host = p.value.to(Device::cpu());
    hash.update(host.raw(), host.bytes());
  });
  return hash.hex();
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

Run::Run(const LoadedConfig& loaded, const std::string& resume, bool force, std::shared_ptr<Ranks> with)
    : config(loaded.config),
      ranks(with ? std::move(with) : Ranks::alone(config)),
      disk_(FileSystem::posix(),
            [this] {
              if (in_save_) ranks->watchdog().renew();
            }),
      store_(disk_, config.run.dir, retention_of(config.checkpoint)) {
  ranks->watchdog().enter("loading", 0);
  const int64_t threads = config.train.threads;
  if (threads > 0 || !ranks->alone()) set_cpu_threads(threads > 0 ? threads : ranks->fair_threads());
  ranks->together([&] {
    open_data();
    make_model();
  });
  compare_ranks();
  ranks->together(
      [&] { optimizer = std::make_unique<AdamW>(config.optimizer, model->parameters(), make_reduction()); });
  if (config.train.precision == Precision::fp16) optimizer->scale_losses();
  start_or_resume(resume, force);
}

int64_t Run::micro_batch_size() const {
  const int64_t asked = config.train.micro_batch_size, batch = config.train.batch_size;
  return asked > 0 ? std::min(asked, batch) : batch;
}

int64_t Run::sequences() const {
  return std::min(micro_batches_.count * micro_batch_size(), config.train.batch_size - first_sequence());
}

void Run::open_data() {
  inputs = open_inputs(config);
  state_model(config.model, inputs.model);
  training_data = make_loader(inputs.corpora, config, config.data.order, config.train.seq_len);
  const int64_t eval_len = config.eval.seq_len > 0 ? config.eval.seq_len : config.train.seq_len;
  if (inputs.validation)
    validation_data = make_loader({{inputs.validation}}, config, SampleOrder::sequential, eval_len);
}

void Run::make_model() {
  const int64_t count = (config.train.batch_size + micro_batch_size() - 1) / micro_batch_size();
  require<ConfigError>(count >= ranks->size(),
                       "train.batch_size = {} and train.micro_batch_size = {} make {} micro-batches a step: some of {} "
                       "ranks would have none. Set train.micro_batch_size to at most {}, or start fewer ranks",
                       config.train.batch_size, config.train.micro_batch_size, count, ranks->size(),
                       std::max<int64_t>(config.train.batch_size / ranks->size(), 1));
  micro_batches_ = share_of(count, ranks->rank(), ranks->size());
  const Device device = ranks->device();
  cuda_graph = uses_graph(config.train.cuda_graph, device);
  model = std::make_unique<MoeutLm>(inputs.model, config.seed, module_options(config.train.precision, device));
}

ShardExchange* Run::make_reduction() {
  const TrainSection& train = config.train;
  const bool sharded = train.shard_optimizer && !ranks->alone();
  if (DeviceCollectives* collectives = ranks->communicator().device(); collectives != nullptr) {
    auto made = std::make_unique<DeviceReduction>(
        ranks->communicator(), model->parameters(),
        DeviceReduction::Options{.sharded = sharded, .precision = train.reduce_precision});
    ShardExchange* shards = sharded ? made.get() : nullptr;
    reduction = std::move(made);
    return shards;
  }
  if (!ranks->device().is_cpu()) return nullptr;
  const int64_t count = (train.batch_size + micro_batch_size() - 1) / micro_batch_size();
  auto made = std::make_unique<ExactReduction>(ranks->communicator(), model->parameters(), count, sharded);
  ShardExchange* shards = sharded ? made.get() : nullptr;
  reduction = std::move(made);
  return shards;
}

void Run::compare_ranks() {
  if (ranks->alone()) return;
  ranks->require_same("the program (SHA-256 of its file)", sha256_file_hex("/proc/self/exe"));
  ranks->require_same("the configuration (SHA-256)", sha256_hex(config_yaml(config)));
  ranks->require_same("the tokenizer of the data (SHA-256)", inputs.train->tokenizer_sha256());
  ranks->require_same("the data (fingerprint)", training_data->fingerprint());
  ranks->require_same("the number of parameters", std::to_string(inputs.model.parameter_count()));
  ranks->require_same("the model's first weights (XXH3)", hash_of_values(*model));
}

void Run::start_or_resume(const std::string& resume, bool force) {
  ranks->watchdog().enter("resuming", 0);
  std::vector<std::string> messages;
  const auto checkpoint = chosen_checkpoint(resume, messages);
  resumed_ = checkpoint.has_value();
  const size_t reasons = messages.size() - (resumed_ && !messages.empty() ? 1 : 0);  // the last says that it is taken
  for (size_t i = 0; i < reasons; ++i) spdlog::info(messages[i]);
  if (!resumed_) {
    state.validation_due = validation_data != nullptr && config.eval.every > 0;
    return;
  }
  ranks->together([&] {
    const auto changes =
        check_resume(*checkpoint, config, inputs.train->tokenizer_sha256(), training_data->fingerprint(), force);
    if (!messages.empty()) spdlog::info(messages.back());
    for (const std::string& change : changes) spdlog::info("changed since the checkpoint: {}", change);
    state = restore(*checkpoint, *model, *optimizer);
  });
  std::error_code error;
  if (stdfs::equivalent(checkpoint->folder(), store_.folder_of(checkpoint->step()), error)) saved_ = state;
}

/// Rank 0 decides, and the others take what it takes.
std::optional<LoadedCheckpoint> Run::chosen_checkpoint(const std::string& resume, std::vector<std::string>& messages) {
  std::optional<LoadedCheckpoint> checkpoint;
  ranks->together([&] {
    if (!ranks->leads()) return;
    ResumeDecision decision = decide_resume(store_, resume);
    messages = std::move(decision.messages);
    checkpoint = std::move(decision.checkpoint);
  });
  const std::string folder = ranks->communicator().broadcast(checkpoint ? checkpoint->folder().string() : "", 0);
  ranks->together([&] {
    if (ranks->leads() || folder.empty()) return;
    std::error_code error;
    require<IoError>(
        stdfs::exists(folder, error),
        "there is no '{}' here, the checkpoint that rank 0 has chosen; run.dir must be on a file system that "
        "all hosts share, under the same name",
        folder);
    checkpoint = LoadedCheckpoint::open(folder);
  });
  return checkpoint;
}

void Run::open_folder(Log& log) {
  ranks->together([&] {
    if (ranks->leads()) open_files(log);
  });
  ranks->together([&] {
    if (!ranks->leads() && config.log.every_rank)
      log.open_file(config.run.dir / fmt::format("train.rank-{}.log", ranks->rank()));
  });
}

void Run::open_files(Log& log) {
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

CheckpointContent Run::content() {
  CheckpointContent content;
  add_tensors(content, *model, *optimizer);
  content.state_json = state.to_json();
  content.config_yaml = config_yaml(config);
  content.config_hash = sha256_hex(content.config_yaml);
  content.tokenizer_sha256 = inputs.train->tokenizer_sha256();
  content.data_fingerprint = training_data->fingerprint();
  content.step = static_cast<uint64_t>(state.step);
  content.world_size = static_cast<uint64_t>(ranks->size());
  if (state.validation_loss && std::isfinite(*state.validation_loss)) content.validation_loss = state.validation_loss;
  return content;
}

void Run::save(Save kind) {
  ranks->watchdog().enter("saving", state.step);
  in_save_ = true;
  save_marked(kind);
  in_save_ = false;
}

void Run::save_marked(Save kind) {
  if (ranks->leads()) {
    attempt(
        [&] {
          if (const auto earlier = saver_.wait()) report(*earlier);
        },
        kind);
  }
  state.optimizer = optimizer->state();
  if (!ranks->agreed_by_first(saved_ != state)) return;
  CheckpointContent gathered;
  {
    const Watchdog::Waiting waiting(ranks->watchdog());
    optimizer->share_values();
    gathered = content();
  }
  if (ranks->leads()) attempt([&] { write(std::move(gathered), kind); }, kind);
}

void Run::write(CheckpointContent content, Save kind) {
  // A resumed run keeps the rows up to its checkpoint, so they must be as durable as it.
  metrics->sync();
  samples->sync();
  if (kind == Save::on_the_way && config.checkpoint.async) {
    saver_.begin(copy_of(std::move(content)));
  } else {
    SavedCheckpoint saved;
    saved.folder = store_.save(content, &saved.warnings);
    report(saved);
  }
  saved_ = state;
}

void Run::look_at_save() {
  if (!ranks->leads()) return;
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
  if (ranks->agreed_by_first(saved_ && saved_->step >= good.step)) return;
  state = good;
  save(Save::last);
}

}  // namespace moeut
