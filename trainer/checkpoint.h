// Checkpoints as a crash leaves them: at every moment at least one that was durable before can be loaded.
// docs/checkpoint.md has the layout and the order of the steps.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "trainer/checkpoint_manifest.h"
#include "trainer/safetensors.h"

namespace moeut {

/// What a run hands over to be saved. The pointers inside the tensors must stay valid during save().
struct CheckpointContent {
  std::vector<TensorBytes> model;      // official parameter names
  std::vector<TensorBytes> optimizer;  // <parameter>.exp_avg, <parameter>.exp_avg_sq
  std::vector<TensorBytes> ema;        // moving averages under official parameter names; empty: no such file
  std::string state_json;              // step, tokens, seed, data cursor, …: the trainer's own fields
  std::string config_yaml;             // the resolved configuration
  std::string config_hash;
  std::string tokenizer_sha256;
  std::string data_fingerprint;
  std::optional<double> validation_loss;  // of these weights, finite, if they were validated
  uint64_t step = 0;
  uint64_t world_size = 1;
};

/// Bytes that a checkpoint of this content takes on the disk, apart from its manifest (about 1 KB).
uint64_t checkpoint_bytes(const CheckpointContent& content);

/// Which checkpoints stay: those that any of the rules keeps, and the one just saved.
struct RetentionOptions {
  /// Number of newest checkpoints (numeric order of the steps) that stay; 0: all of them.
  uint64_t keep_last = 3;
  /// Those of steps that are multiples of it stay; 0: none for that.
  uint64_t keep_every = 0;
  /// Number of those with the lowest validation losses (the newer of equal ones) that stay.
  uint64_t keep_best = 0;
};

/// Only the manifest of a checkpoint, itself checked. Throws IoError.
CheckpointManifest read_checkpoint_manifest(const std::filesystem::path& folder);

/// A checkpoint whose every byte was compared with its manifest.
class LoadedCheckpoint {
 public:
  /// Throws IoError, which names the file and the reason, if anything is missing, damaged or not understood.
  static LoadedCheckpoint open(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const CheckpointManifest& manifest() const { return manifest_; }
  uint64_t step() const { return manifest_.step; }
  const SafetensorsFile& model() const { return model_; }
  const SafetensorsFile& optimizer() const { return optimizer_; }
  /// Nothing if averages were not kept.
  const std::optional<SafetensorsFile>& ema() const { return ema_; }
  const std::string& state_json() const { return state_json_; }
  const std::string& config_yaml() const { return config_yaml_; }

 private:
  LoadedCheckpoint(std::filesystem::path folder, CheckpointManifest manifest);

  std::filesystem::path folder_;
  CheckpointManifest manifest_;
  std::string state_json_;
  std::string config_yaml_;
  SafetensorsFile model_;
  SafetensorsFile optimizer_;
  std::optional<SafetensorsFile> ema_;
};

/// The checkpoints of one run, in <run_dir>/checkpoints/step-NNNNNNNN/. One process at a time may write; nothing is
/// kept in memory, so other objects and processes may read meanwhile.
class CheckpointStore {
 public:
  /// Touches nothing on the disk. `fs` must outlive the store.
  CheckpointStore(FileSystem& fs, const std::filesystem::path& run_dir, RetentionOptions retention = {});

  const std::filesystem::path& folder() const { return folder_; }

  /// Writes the checkpoint of content.step, replacing one of the same step, then applies the retention rule. When it
  /// returns, the checkpoint is durable; its folder is the result. Throws IoError if it could not be saved (a full disk
  /// is noticed before the first byte): older checkpoints are then as they were. Trouble with removing what is no
  /// longer wanted goes to `warnings` instead.
  std::filesystem::path save(const CheckpointContent& content, std::vector<std::string>* warnings = nullptr);

  /// The newest checkpoint that verifies; one line in `rejected` for each newer one that does not.
  std::optional<LoadedCheckpoint> newest_verified(std::vector<std::string>* rejected = nullptr) const;

  /// Steps of all checkpoints present, ascending, not verified.
  std::vector<uint64_t> steps() const;
  std::filesystem::path folder_of(uint64_t step) const;

  /// Renames every checkpoint newer than `step` (nullopt: every one) to step-N.aside-K, which nothing here reads or
  /// removes: to be called once before training goes on from an older state, lest a later resume takes up the abandoned
  /// future. Returns the new paths.
  std::vector<std::filesystem::path> set_aside_newer_than(std::optional<uint64_t> step);

  /// Removes what interrupted saves and removals left. save() does so itself.
  void remove_leftovers(std::vector<std::string>* warnings = nullptr);

 private:
  struct Candidate {
    uint64_t step;
    std::filesystem::path folder;
  };
  /// Newest first; where one of a step was being replaced, the replacement first.
  std::vector<Candidate> candidates() const;
  void check_space(const CheckpointContent& content) const;
  void write_folder(const CheckpointContent& content, const std::filesystem::path& folder);
  void publish(const std::filesystem::path& temporary, const std::filesystem::path& folder);
  std::vector<std::filesystem::path> unwanted(uint64_t saved_step) const;
  std::set<uint64_t> best_steps() const;
  void retain(uint64_t saved_step, std::vector<std::string>* warnings);
  void discard(const std::filesystem::path& folder);

  FileSystem& fs_;
  std::filesystem::path folder_;
  RetentionOptions retention_;
};

}  // namespace moeut
