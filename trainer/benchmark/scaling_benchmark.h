// The scaling of a model over many ranks: predicted from what was measured here, beside what these ranks reach.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/json.h"
#include "trainer/benchmark/rank_benchmark.h"
#include "trainer/benchmark_report.h"

namespace moeut {

/// A link and where its numbers come from.
struct KnownLink {
  Link link;
  std::string source;  ///< "given", "measured", or what the default is
};

struct ScalingOptions {
  BenchmarkOptions step;       ///< of one rank
  std::vector<int64_t> ranks;  ///< to predict for
  int64_t global_batch = 0;    ///< sequences of a step of strong scaling; 0: one micro-batch for each of the most ranks
  bool sharded = false;        ///< train.shard_optimizer
  ReducePrecision precision = ReducePrecision::fp32;
  int64_t ranks_per_host = 0;  ///< 0: 8 on GPUs; on CPUs as many as there are cores for
  std::optional<double> within_gb, within_us, between_gb, between_us;  ///< GB/s and microseconds
  std::optional<StepCost> cost;                                        ///< instead of a measurement
};

struct ScalingRow {
  PredictedStep predicted;
  int64_t sequences = 0;  ///< of a step, all ranks together
  double tokens_per_second = 0;
  double efficiency = 0;               ///< of the prediction, against one rank
  std::optional<RankTiming> measured;  ///< by these ranks
  double measured_tokens_per_second = 0;
};

struct ScalingBenchmark {
  StepCost cost;
  bool cost_given = false;
  int64_t steps = 0;
  int threads = 0;
  int64_t cores = 0;
  GradientVolume volume;
  Cluster cluster;
  KnownLink within, between;
  double sum_seconds = 0, add_seconds = 0;  ///< on CPUs: see HostExchange
  std::optional<RankTiming> alone;          ///< rank 0 by itself, where its steps were measured
  std::vector<ScalingRow> weak, strong;     ///< strong: only counts of ranks that have a micro-batch each
};

/// Measures a step of one rank, and of all ranks where there are several, and predicts. Collective; only rank 0's
/// result is whole.
ScalingBenchmark run_scaling_benchmark(Ranks& ranks, const ScalingOptions& options);

std::string scaling_text(const BenchmarkSubject& subject, const ScalingOptions& options,
                         const ScalingBenchmark& result);
Json scaling_json(const BenchmarkSubject& subject, const ScalingOptions& options, const ScalingBenchmark& result);

}  // namespace moeut
