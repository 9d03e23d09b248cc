// Data-parallel steps of this process and all that were started with it, timed: what the scaling model predicts.
#pragma once

#include "trainer/benchmark.h"
#include "trainer/ranks.h"
#include "trainer/scaling_model.h"

namespace moeut {

struct RankBenchmarkOptions {
  BenchmarkOptions step;      ///< its batch is that of one rank, its device that of Ranks; runs without a CUDA graph
  int64_t micro_batches = 1;  ///< of a step, all ranks together, each of step.size's
  bool sharded = false;
  ReducePrecision precision = ReducePrecision::fp32;

  int64_t micro_batch_size() const;
};

/// Of rank 0, in seconds; medians of all timed steps.
struct RankTiming {
  Spread step;
  double forward = 0, backward = 0;  ///< of all its micro-batches
  double waiting = 0;                ///< at the end of the backward pass, until all ranks have come so far
  double exchange = 0;               ///< on CPUs; on GPUs nobody sees it by itself
  double optimizer = 0;
  double all = 0;  ///< the whole measurement, with what is made for it
};

/// Training steps on random tokens that all ranks do together. Collective. Throws on every rank if one fails.
RankTiming time_ranks(Ranks& ranks, const RankBenchmarkOptions& options);

/// The same steps on rank 0 alone, while the others sleep; only rank 0 has the result. `others_sleep`: seconds, at
/// least as long as it takes. Collective.
RankTiming time_alone(Ranks& ranks, const RankBenchmarkOptions& options, double others_sleep);

/// What each of these ranks sends per second while all send to all others, and how long the shortest messages take.
/// Collective; there must be two or more.
Link measure_link(Communicator& communicator);

/// Seconds for an element of a gradient that joins those of a rank's earlier micro-batches.
double measure_add();
/// Seconds that the exact sum of `parts` contributions of this type takes for an element of one, with the threads that
/// are set.
double measure_sum(int parts, DType type);

}  // namespace moeut
