// Batches of a dataset in an order that one number describes.
//
// Samples are the windows of seq_len + 1 tokens at stride seq_len over the concatenated stream: window w is tokens
// [w·T, w·T + T], so every token but the first is a target exactly once an epoch. Tail: the last (tokens - 1) mod T
// tokens of the stream do not fill a window and are left out of every epoch. Global sample s lies in epoch e = s div n
// at position p = s mod n, n = (tokens - 1) div T, and is window Permutation(n, seed, e)(p), or window p without
// shuffling. This order is a format: it does not depend on batch size, ranks, threads or prefetch, and never changes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/dataset.h"

namespace moeut {

/// tokens (B, T) and targets (B, T), row-major; targets[b, t] is the token after tokens[b, t].
struct Batch {
  int64_t sequences = 0, seq_len = 0;
  uint64_t first_sample = 0;
  std::vector<int32_t> tokens, targets;
};

struct LoaderOptions {
  uint64_t seed = 0;
  int64_t seq_len = 0;  ///< T, in tokens
  bool shuffle = true;  ///< false: the stream's own order, every epoch the same (validation)
  int prefetch = 2;     ///< batches read ahead by start()
};

/// One thread may use a loader at a time; start() adds one of the loader's own.
class Loader {
 public:
  /// Throws ConfigError for seq_len or prefetch below 1, IoError if the dataset has fewer than seq_len + 1 tokens.
  Loader(std::shared_ptr<const TokenDataset> dataset, LoaderOptions options);
  Loader(Loader&&) = delete;
  ~Loader();

  uint64_t samples_per_epoch() const { return samples_; }
  int64_t seq_len() const { return options_.seq_len; }
  /// The window that global sample `sample` is.
  uint64_t window(uint64_t sample) const;

  /// Samples [first_sample, first_sample + count): a pure function of (dataset, seed, seq_len, shuffle) and these two.
  /// Any position costs the same.
  Batch get(uint64_t first_sample, int64_t count) const;

  /// Begins to read ahead, `count_per_batch` samples at a time from first_sample on; ends an earlier start().
  void start(uint64_t first_sample, int64_t count_per_batch);
  /// The next batch of start(); waits for it. An error of the reading thread is thrown here, now and at every later
  /// call.
  Batch next();

 private:
  struct Prefetcher;
  std::shared_ptr<const TokenDataset> dataset_;
  LoaderOptions options_;
  uint64_t samples_ = 0;
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace moeut
