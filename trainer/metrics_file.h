// metrics.jsonl of a run folder: one JSON object a line, on its way to the disk before the next is made.
//
// Training rows:    step, tokens, loss, reg_loss, grad_norm, lr, tokens_per_s, step_ms
// Validation rows:  step, val_loss, val_perplexity; val_loss_ema where averages of the weights are kept
// Numbers are the shortest decimals that read back to the same double. What is not finite is one of the strings "NaN",
// "Infinity", "-Infinity", since JSON has no such numbers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "data/json.h"

namespace moeut {

struct TrainingRow {
  int64_t step = 0;     // optimizer steps done, this one included
  uint64_t tokens = 0;  // target tokens seen by the run until now
  double loss = 0;      // cross-entropy of the step's batch, nats per token
  double reg_loss = 0;
  double grad_norm = 0;  // before clipping
  double lr = 0;         // with which this step was made
  double tokens_per_s = 0;
  double step_ms = 0;
};

struct ValidationRow {
  int64_t step = 0;
  double val_loss = 0;  // nats per token
  double val_perplexity = 0;
  std::optional<double> val_loss_ema = std::nullopt;  // of the weights' moving averages
};

/// A finite number as it is, others as a string (see above).
Json metric_number(double value);

/// Throughout, IoError names the file and the system's reason. Not thread-safe.
class MetricsFile {
 public:
  /// Opens `path` for appending, creating it if need be. Without `resume_step` the file starts empty. With it, rows of
  /// later steps and what a killed process left of a last row are cut off, so that an interrupted and resumed run
  /// writes the file of an undisturbed one (times aside).
  /// `redone`: rows of resume_step that have this member go too, because the run stopped before it noted them as done.
  MetricsFile(const std::filesystem::path& path, std::optional<int64_t> resume_step, std::string_view redone = "");
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  void write(const TrainingRow& row);
  void write(const ValidationRow& row);
  /// Any object with a "step", written by one system call. If the disk is full, the part that was written is taken
  /// back.
  void write(const Json::Object& row);

  /// All rows are on the disk when this returns. To be called before a checkpoint becomes durable: a resumed run keeps
  /// the rows up to its checkpoint, so they must not be lost to a power failure that the checkpoint survives.
  void sync();

  /// Rows that opening cut off.
  int64_t rows_cut() const { return rows_cut_; }

 private:
  void cut_after(int64_t step, std::string_view redone);

  std::filesystem::path path_;
  int fd_ = -1;
  int64_t rows_cut_ = 0;
};

}  // namespace moeut
