// How long a training step takes on many ranks, predicted from what it takes on one and from the links between them.
// docs/scaling.md has the formulas, what they assume, and how far off they were.
#pragma once

#include <cstdint>
#include <limits>

#include "layers/model_config.h"
#include "layers/module.h"

namespace moeut {

/// What one rank sends while it receives as much.
struct Link {
  double bytes_per_second = std::numeric_limits<double>::infinity();
  double latency_seconds = 0;  ///< of one message
};

/// Hosts of equal ranks. `between`: a rank's share of its host's network.
struct Cluster {
  int64_t ranks_per_host = 8;
  Link within{}, between{};
  double call_seconds = 0;  ///< of every collective, whatever its size

  int64_t ranks_here(int64_t ranks) const { return ranks < ranks_per_host ? ranks : ranks_per_host; }
  int64_t hosts(int64_t ranks) const { return (ranks + ranks_per_host - 1) / ranks_per_host; }
};

/// Seconds until every rank has the sum of all ranks' `bytes`: a ring in every host, then hosts by ring or tree,
/// whichever is faster.   [Thakur et al. 2005; Patarasuk & Yuan 2009]
double all_reduce_seconds(const Cluster& cluster, int64_t ranks, double bytes);
/// Seconds until every rank has its share of the sum. With `calls` rooted sums, one after the other through the ring.
/// As long as the opposite takes, the gathering of all shares on every rank.
double reduce_scatter_seconds(const Cluster& cluster, int64_t ranks, double bytes, int64_t calls = 0);

/// What of a model's trainable parameters travels.
struct GradientVolume {
  double elements = 0;
  double late_elements = 0;  ///< whose gradient is final only when the backward pass ends: the embedding
  double operand_bytes = 0;  ///< of what ops read: rounded copies, where there are any
  int64_t tensors = 0;
  double final_share = 1;  ///< of the backward pass, at its end, in which gradients become final: the last repeat
};
/// Throws ConfigError if the model is not possible. options.device does not matter.
GradientVolume gradient_volume(const ModelConfig& model, ModuleOptions options);

/// Seconds on one rank that shares its machine with none.
struct StepCost {
  double forward = 0, backward = 0;  ///< of a micro-batch
  double optimizer = 0;
};

/// How GPUs add up (trainer/device_reduction.h).
struct DeviceExchange {
  bool sharded = false;  ///< ZeRO-1
  bool overlap = true;
  /// What the backward pass loses for each second of communication beside it: both need memory and multiprocessors.
  double contention = 0;
  double gradient_bytes = 4;  ///< of an element on its way
  double bucket_bytes = 25 << 20;
};

/// How CPUs add up (trainer/exact_reduction.h).
struct HostExchange {
  bool sharded = false;
  double gradient_bytes = 4;  ///< of an element of a gradient; a sum of several has 8
  double sum_seconds = 0;     ///< of adding one element of one contribution
  double add_seconds = 0;     ///< of adding one element of a micro-batch to the sum of a rank's several
  double slowdown = 1;        ///< of all computation: threads of all ranks for each core, where there are more than one
  int64_t piece_elements = int64_t{1} << 20;  ///< ShardPlan::kMostElements
};

/// Where the time of a step goes, in seconds.
struct PredictedStep {
  int64_t ranks = 1;
  int64_t micro_batches = 1;  ///< of the rank that has most
  double compute = 0;         ///< forward and backward
  double exposed = 0;         ///< communication, and its sums, that nothing hides, and what the rest slows down
  double hidden = 0;          ///< communication beside the backward pass, not part of seconds()
  double optimizer = 0;

  double seconds() const { return compute + exposed + optimizer; }
};

/// `micro_batches`: of the step, all ranks together, at least one a rank.
PredictedStep predict_device_step(const StepCost& cost, const GradientVolume& volume, const Cluster& cluster,
                                  const DeviceExchange& how, int64_t ranks, int64_t micro_batches);
PredictedStep predict_host_step(const StepCost& cost, const GradientVolume& volume, const Cluster& cluster,
                                const HostExchange& how, int64_t ranks, int64_t micro_batches);

/// How many times as fast as one rank `ranks` are for each of them: work done in a second, over ranks times that of
/// one. Of the same work (strong scaling) or of as much a rank (weak), in micro-batches.
double efficiency(double one_seconds, int64_t one_micro_batches, double seconds, int64_t micro_batches, int64_t ranks);

}  // namespace moeut
