// Batches of a dataset in an order that one number describes.
//
// Samples of a corpus are the windows of seq_len + 1 tokens at stride seq_len over its concatenated stream: window w is
// tokens [w·T, w·T + T], so every token but the first is a target exactly once an epoch. Tail: the last (tokens - 1)
// mod T tokens of the stream do not fill a window and are left out of every epoch, and so are, with lanes, the windows
// that do not fill all lanes. Which window global sample s is: see sample_order.h. This order is a format: it does not
// depend on batch size, ranks, threads or prefetch, and never changes.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/dataset.h"
#include "data/sample_order.h"

namespace moeut {

/// tokens (B, T) and targets (B, T), row-major; targets[b, t] is the token after tokens[b, t].
struct Batch {
  int64_t sequences = 0, seq_len = 0;
  uint64_t first_sample = 0;
  std::vector<int32_t> tokens, targets;
  /// (B, T), or empty if they were not asked for: where in its row the document of each token begins; 0 if that was
  /// before the row. The first token of the next document stays the target of a document's last one.
  std::vector<int32_t> document_starts;
};

/// A dataset and its share of a mixture's sequences, in the ratio of the weights.
struct Corpus {
  std::shared_ptr<const TokenDataset> dataset;
  double weight = 1;
};

struct LoaderOptions {
  uint64_t seed = 0;
  int64_t seq_len = 0;           ///< T, in tokens
  bool shuffle = true;           ///< false: the stream's own order, every epoch the same (validation)
  int64_t lanes = 0;             ///< above 0, without shuffle: the order in so many lanes
  bool document_starts = false;  ///< give Batch::document_starts
  int prefetch = 2;              ///< batches read ahead by start()
};

/// One thread may use a loader at a time; start() adds one of the loader's own.
class Loader {
 public:
  /// Corpus c is shuffled with seed + c. Throws ConfigError for seq_len or prefetch below 1, lanes together with
  /// shuffle and weights that sample_order.h refuses; IoError if a dataset has fewer than seq_len + 1 tokens, or less
  /// than a window for each lane.
  Loader(std::vector<Corpus> corpora, LoaderOptions options);
  Loader(std::shared_ptr<const TokenDataset> dataset, LoaderOptions options)
      : Loader(std::vector<Corpus>{{std::move(dataset)}}, options) {}
  Loader(Loader&&) = delete;
  ~Loader();

  size_t corpora() const { return corpora_.size(); }
  /// Of one corpus.
  uint64_t samples_per_epoch(size_t corpus = 0) const { return orders_[corpus].samples_per_epoch(); }
  int64_t seq_len() const { return options_.seq_len; }
  SamplePlace place(uint64_t sample) const;

  /// Samples [first_sample, first_sample + count): a pure function of the corpora, the options and these two.
  /// Any position costs the same.
  Batch get(uint64_t first_sample, int64_t count) const;

  /// Begins to read ahead, `count_per_batch` samples at a time from first_sample on; ends an earlier start().
  void start(uint64_t first_sample, int64_t count_per_batch);
  /// The next batch of start(); waits for it. An error of the reading thread is thrown here, now and at every later
  /// call.
  Batch next();

 private:
  struct Prefetcher;
  SampleOrder order_of(size_t corpus) const;

  std::vector<Corpus> corpora_;
  LoaderOptions options_;
  Mixture mixture_;
  std::vector<SampleOrder> orders_;  ///< of each corpus
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace moeut
