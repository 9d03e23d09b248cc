#include "trainer/scaling_model.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "layers/moeut_lm.h"
#include "trainer/flops.h"
#include "trainer/shard_plan.h"

namespace moeut {
namespace {

/// Half of a ring all-reduce: every rank passes on all shares but one.
double half_ring(int64_t n, double bytes, const Link& link) {
  const auto steps = static_cast<double>(n - 1);
  return steps / static_cast<double>(n) * bytes / link.bytes_per_second + steps * link.latency_seconds;
}

/// Up and down a pair of binary trees that share the bytes.   [Sanders et al. 2009]
double double_tree(int64_t n, double bytes, const Link& link) {
  if (n == 1) return 0;
  const auto depth = static_cast<double>(std::bit_width(static_cast<uint64_t>(n - 1)));
  return 2 * bytes / link.bytes_per_second + 2 * depth * link.latency_seconds;
}

/// Of the links between hosts, if there are several.
const Link& slowest(const Cluster& cluster, int64_t ranks) {
  return cluster.hosts(ranks) > 1 ? cluster.between : cluster.within;
}

/// Of a step's micro-batches those of the rank that has most.
int64_t most_of(int64_t micro_batches, int64_t ranks) {
  return share_of(micro_batches, 0, static_cast<int>(ranks)).count;
}

/// Sums of `bytes` that leave in buckets.
double sum_seconds(const Cluster& cluster, const DeviceExchange& how, int64_t ranks, double bytes, int64_t calls) {
  const double buckets = std::max(1.0, std::ceil(bytes / how.bucket_bytes));
  const double each = how.sharded ? reduce_scatter_seconds(cluster, ranks, bytes / buckets)
                                  : all_reduce_seconds(cluster, ranks, bytes / buckets);
  const double rooted = how.sharded ? static_cast<double>(calls) * slowest(cluster, ranks).latency_seconds : 0;
  return buckets * each + rooted;
}

/// Every element of every rank goes to its owner and comes back, each rank with all others at once.
double point_to_point(const Cluster& cluster, int64_t ranks, double bytes) {
  const auto n = static_cast<double>(ranks), here = static_cast<double>(cluster.ranks_here(ranks));
  return (here - 1) / n * bytes / cluster.within.bytes_per_second +
         (n - here) / n * bytes / cluster.between.bytes_per_second;
}

}  // namespace

double all_reduce_seconds(const Cluster& cluster, int64_t ranks, double bytes) {
  if (ranks == 1) return 0;
  const int64_t here = cluster.ranks_here(ranks), hosts = cluster.hosts(ranks);
  const double share = bytes / static_cast<double>(here);
  return cluster.call_seconds + 2 * half_ring(here, bytes, cluster.within) +
         std::min(2 * half_ring(hosts, share, cluster.between), double_tree(hosts, share, cluster.between));
}

double reduce_scatter_seconds(const Cluster& cluster, int64_t ranks, double bytes, int64_t calls) {
  if (ranks == 1) return 0;
  const int64_t here = cluster.ranks_here(ranks), hosts = cluster.hosts(ranks);
  return cluster.call_seconds + half_ring(here, bytes, cluster.within) +
         half_ring(hosts, bytes / static_cast<double>(here), cluster.between) +
         static_cast<double>(calls) * slowest(cluster, ranks).latency_seconds;
}

GradientVolume gradient_volume(const ModelConfig& config, ModuleOptions options) {
  options.device = Device::meta();
  MoeutLm model(config, 0, options);
  GradientVolume volume;
  model.visit_parameters([&](Parameter& p) {
    if (!p.trainable) return;
    volume.elements += static_cast<double>(p.value.size());
    volume.operand_bytes += static_cast<double>(p.operand().bytes());
    volume.tensors += 1;
  });
  model.embedding.visit_parameters([&](Parameter& p) { volume.late_elements += static_cast<double>(p.value.size()); });
  const ForwardMacs macs = forward_macs(config, 1);
  volume.final_share = (1 - macs.head / macs.total()) / static_cast<double>(config.repeats());
  return volume;
}

PredictedStep predict_device_step(const StepCost& cost, const GradientVolume& volume, const Cluster& cluster,
                                  const DeviceExchange& how, int64_t ranks, int64_t micro_batches) {
  PredictedStep step{.ranks = ranks, .micro_batches = most_of(micro_batches, ranks)};
  step.compute = static_cast<double>(step.micro_batches) * (cost.forward + cost.backward);
  step.optimizer = how.sharded ? cost.optimizer / static_cast<double>(ranks) : cost.optimizer;
  if (ranks == 1) return step;
  // Every owner's part of every tensor is a call of its own, and cuts between owners add one each.
  const int64_t calls = volume.tensors + ranks;
  const double early =
      sum_seconds(cluster, how, ranks, (volume.elements - volume.late_elements) * how.gradient_bytes, calls - 1);
  const double late = sum_seconds(cluster, how, ranks, volume.late_elements * how.gradient_bytes, 1);
  const double window = how.overlap ? cost.backward * volume.final_share : 0;
  step.hidden = std::min(early, window);
  step.exposed = early - step.hidden * (1 - how.contention) + late;
  step.exposed += all_reduce_seconds(cluster, ranks, 2 * sizeof(double));  // the losses
  if (how.sharded) {
    step.exposed += all_reduce_seconds(cluster, ranks, sizeof(double));  // the gradient's norm
    step.exposed += reduce_scatter_seconds(cluster, ranks, volume.operand_bytes, calls);
  }
  return step;
}

PredictedStep predict_host_step(const StepCost& cost, const GradientVolume& volume, const Cluster& cluster,
                                const HostExchange& how, int64_t ranks, int64_t micro_batches) {
  PredictedStep step{.ranks = ranks, .micro_batches = most_of(micro_batches, ranks)};
  const auto n = static_cast<double>(ranks);
  const double adding = step.micro_batches > 1 ? volume.elements * how.add_seconds : 0;
  step.compute = how.slowdown * static_cast<double>(step.micro_batches) * (cost.forward + cost.backward + adding);
  step.optimizer = how.slowdown * (how.sharded ? cost.optimizer / n : cost.optimizer);
  if (ranks == 1) return step;
  const double contribution = step.micro_batches > 1 ? sizeof(double) : how.gradient_bytes;
  const double back = how.sharded ? volume.operand_bytes / volume.elements : how.gradient_bytes;
  const double rounds = std::ceil(volume.elements / n / static_cast<double>(how.piece_elements)) + 1;
  step.exposed = point_to_point(cluster, ranks, volume.elements * (contribution + back));
  step.exposed += rounds * slowest(cluster, ranks).latency_seconds;
  step.exposed += how.slowdown * volume.elements * how.sum_seconds;  // elements / n of n contributions each
  return step;
}

double efficiency(double one_seconds, int64_t one_micro_batches, double seconds, int64_t micro_batches, int64_t ranks) {
  const double one = static_cast<double>(one_micro_batches) / one_seconds;
  return static_cast<double>(micro_batches) / seconds / (static_cast<double>(ranks) * one);
}

}  // namespace moeut
