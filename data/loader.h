// Batches of one or several corpora in an order that one number describes.
//
// Global sample s is sample (corpus, index) of the mixture (data/mixture.h), which is a sequence of the corpus by its
// order (data/sample_order.h), which is a span of the corpus' tokens by its packing (data/sequences.h). With one corpus
// the index is s. Each corpus has its own epochs: one ends when its own samples do. The seed of corpus c = 0, 1, … is
// seed + c · 0x9E3779B97F4A7C15 modulo 2^64. This order is a format: it does not depend on batch size, ranks, threads
// or prefetch, and never changes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/corpora.h"
#include "data/mixture.h"
#include "data/sample_order.h"
#include "data/sequences.h"

namespace moeut {

/// tokens (B, T) and targets (B, T), row-major; targets[b, t] is the token after tokens[b, t].
struct Batch {
  int64_t sequences = 0, seq_len = 0;
  uint64_t first_sample = 0;
  std::vector<int32_t> tokens, targets;
  /// (B, T): where in its row the document of a token begins, 0 if before the row; empty without a document mask.
  std::vector<int32_t> document_starts = {};
  /// Rows may be shorter than T: then token 0 and target kIgnoredTarget fill them up.
  bool padded = false;

  static constexpr int32_t kIgnoredTarget = -1;
  /// Targets that are tokens.
  int64_t real_targets() const;
};

struct LoaderOptions {
  uint64_t seed = 0;
  int64_t seq_len = 0;  ///< T, in tokens
  SampleOrder order = SampleOrder::shuffled;
  int64_t lanes = 64;  ///< of SampleOrder::lanes
  Packing packing = Packing::packed;
  /// Batches say where documents begin. Targets stay as they are: the last token of a document predicts the first of
  /// the next, as it does when a text is generated from a separator. Packing::document needs no mask and gets none.
  bool document_mask = false;
  int prefetch = 2;  ///< batches read ahead by start()
};

/// One thread may use a loader at a time; start() adds one of the loader's own.
class Loader {
 public:
  /// Throws ConfigError for options that are not possible, IoError if a corpus does not have one sequence.
  Loader(std::vector<Corpus> corpora, const LoaderOptions& options);
  Loader(std::shared_ptr<const TokenDataset> dataset, const LoaderOptions& options);
  Loader(Loader&&) = delete;
  ~Loader();

  /// Of all corpora together: with several, each goes through its own as often as its weight asks for.
  uint64_t samples_per_epoch() const;
  uint64_t samples_per_epoch(size_t corpus) const { return parts_[corpus].order.samples_per_epoch(); }
  int64_t seq_len() const { return options_.seq_len; }
  /// Whether batches are padded.
  bool padded() const { return options_.packing == Packing::document; }

  /// Which sequence of which corpus global sample `sample` is, in which epoch of the corpus.
  struct Place {
    size_t corpus = 0;
    uint64_t epoch = 0, sequence = 0;
  };
  Place place(uint64_t sample) const;

  /// Samples [first_sample, first_sample + count): a pure function of (corpora, options) and these two. Any position
  /// costs the same.
  Batch get(uint64_t first_sample, int64_t count) const;

  /// Names the contents of the corpora and the quotas at which they are mixed: two loaders of one fingerprint and the
  /// same options deliver the same samples. That of a single corpus is its dataset's.
  std::string fingerprint() const;

  /// Targets of samples [first_sample, first_sample + count) that are tokens, without reading them.
  int64_t real_targets(uint64_t first_sample, int64_t count) const;

  /// Begins to read ahead, `count_per_batch` samples at a time from first_sample on, first samples `stride` apart (0:
  /// count_per_batch, so that none is left out); ends an earlier start().
  void start(uint64_t first_sample, int64_t count_per_batch, int64_t stride = 0);
  /// The next batch of start(); waits for it. An error of the reading thread is thrown here, now and at every later
  /// call.
  Batch next();

 private:
  struct Prefetcher;
  struct Part {
    std::shared_ptr<const TokenDataset> dataset;
    SequenceIndex sequences;
    EpochOrder order;
  };
  void read_row(uint64_t sample, Batch& batch, size_t row, std::vector<int32_t>& ids) const;

  LoaderOptions options_;
  Mixture mixture_;
  std::vector<Part> parts_;
  std::unique_ptr<Prefetcher> prefetcher_;
};

}  // namespace moeut
