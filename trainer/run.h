// Everything that a training run is made of, opened, checked and at the step from which it goes on.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/folder_lock.h"
#include "data/loader.h"
#include "layers/moeut_lm.h"
#include "trainer/async_saver.h"
#include "trainer/checkpoint.h"
#include "trainer/config_load.h"
#include "trainer/gradient_reduction.h"
#include "trainer/log.h"
#include "trainer/metrics_file.h"
#include "trainer/optimizer.h"
#include "trainer/ranks.h"
#include "trainer/run_inputs.h"
#include "trainer/tensorboard_file.h"
#include "trainer/training_state.h"
#include "trainer/watched_file_system.h"

namespace moeut {

/// With several ranks everything but finished() is collective, and what is said of the disk is rank 0's work.
class Run {
 public:
  /// Opens the data, makes the model and takes up the checkpoint that `resume` names (see decide_resume; `force`: see
  /// check_resume). Changes nothing on the disk. Throws ConfigError or IoError; with several ranks also Error, if they
  /// are not all of the same program, configuration, data and weights. `ranks` null: this process alone.
  Run(const LoadedConfig& loaded, const std::string& resume, bool force = false,
      std::shared_ptr<Ranks> ranks = nullptr);

  /// All steps are done, and what is due after the last one.
  bool finished() const { return state.step >= config.train.steps && !state.validation_due && !state.sample_due; }

  /// Makes the run folder ready to be written to: locks it, cuts the metrics back to the step reached, sets checkpoints
  /// of a future that is given up aside, stores the resolved configuration. `log` goes to the folder's file as well.
  void open_folder(Log& log);

  enum class Save { on_the_way, last };
  /// Makes the present state durable, unless the newest checkpoint holds it already: in the background if it is one on
  /// the way and checkpoint.async is set. Waits for an earlier one first. Throws IoError if a save has failed, unless
  /// it is one on the way and checkpoint.on_failure is continue. Needs open_folder.
  void save(Save kind);
  /// Says what came of a save in the background, if one has ended. Throws as save does.
  void look_at_save();
  /// Goes back to `good`, from which parameters and moments are unchanged, and makes that durable unless the newest
  /// checkpoint is not older.
  void save_before_bad_steps(const TrainingState& good);

  /// This rank's part of a step: sequences of the global batch.
  int64_t first_sequence() const { return micro_batches_.first * micro_batch_size(); }
  int64_t sequences() const;
  int64_t micro_batch_size() const;

  RunConfig config;  // with every argument of the model stated
  std::shared_ptr<Ranks> ranks;
  RunInputs inputs;
  std::unique_ptr<MoeutLm> model;
  std::unique_ptr<GradientReduction> reduction;  // null: micro-batches are added in place
  std::unique_ptr<AdamW> optimizer;
  bool cuda_graph = false;  // steps are to be recorded
  TrainingState state;
  std::unique_ptr<Loader> training_data;
  std::unique_ptr<Loader> validation_data;      // null: none
  std::optional<MetricsFile> metrics, samples;  // from open_folder on, on rank 0
  std::optional<TensorboardFile> tensorboard;   // likewise, if log.tensorboard

 private:
  void open_data();
  void make_model();
  ShardExchange* make_reduction();
  void compare_ranks();
  void start_or_resume(const std::string& resume, bool force);
  std::optional<LoadedCheckpoint> chosen_checkpoint(const std::string& resume, std::vector<std::string>& messages);
  void open_files(Log& log);
  CheckpointContent content();
  void save_marked(Save kind);
  void write(CheckpointContent content, Save kind);
  void report(const SavedCheckpoint& saved) const;
  void attempt(const std::function<void()>& action, Save kind);

  MicroBatchShare micro_batches_;
  std::optional<FolderLock> lock_;
  std::atomic<bool> in_save_ = false;  // what is written is then the main thread's progress, whoever writes it
  WatchedFileSystem disk_;
  CheckpointStore store_;
  bool resumed_ = false;
  AsyncSaver saver_{store_};
  std::optional<TrainingState> saved_;  // what this run's newest checkpoint holds, or will when it is written
};

}  // namespace moeut
