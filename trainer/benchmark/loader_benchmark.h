// How fast one thread makes batches from shards in the page cache, beside a plain copy of as many bytes.
#pragma once

#include <cstdint>
#include <string>

#include "data/json.h"
#include "trainer/benchmark.h"

namespace moeut {

struct LoaderBenchmarkOptions {
  int64_t batch_size = 64, seq_len = 1024;
  int64_t vocabulary = 8000;  ///< up to 65536 ids have two bytes, beyond four
  int64_t runs = 10;          ///< batches that are timed
  int64_t warmup = 2;         ///< before them
  uint64_t seed = 0;
};

struct LoaderBenchmark {
  std::string machine;
  uint64_t stream_tokens = 0;        ///< of the shard that is read, in shuffled order
  double first_seconds = 0;          ///< of its first epoch, in which the hash of each block is checked
  Spread batch_seconds;              ///< of a batch later on
  Spread copy_seconds;               ///< memcpy of a batch's tokens and targets (8 bytes a token), source out of cache
  Spread near_seconds, far_seconds;  ///< of sample 0 and of sample 10^9 by itself

  double first_rate() const { return static_cast<double>(stream_tokens) / first_seconds; }  ///< tokens/s
};

/// Tokens are random and lie in a temporary folder. Loader, copy and both samples are measured in turn, so that they
/// see the machine in the same state. Throws IoError if the folder cannot be written.
LoaderBenchmark run_loader_benchmark(const LoaderBenchmarkOptions& options);

std::string loader_text(const LoaderBenchmarkOptions& options, const LoaderBenchmark& result);
Json loader_json(const LoaderBenchmarkOptions& options, const LoaderBenchmark& result);

}  // namespace moeut
