// How fast a training step is here, beside what the machine's matrix product reaches, and how much memory it takes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "layers/model_config.h"
#include "layers/module.h"
#include "trainer/config.h"
#include "trainer/memory_plan.h"
#include "trainer/phase_timer.h"

namespace moeut {

struct BenchmarkOptions {
  ModelConfig model;
  OptimizerSection optimizer;
  StepSize size;
  ModuleOptions modules = {};
  bool cuda_graph = false;  ///< steps run as a CUDA graph, whose phases cannot be told apart
  bool nccl = false;        ///< gradients go through NCCL, as those of one rank of several do
  uint64_t seed = 0;
  int64_t steps = 10;  ///< timed
  int64_t warmup = 2;  ///< run before them; with a graph the second of all records it
};

/// Repeated measurements of one quantity.
struct Spread {
  double median = 0, min = 0, max = 0;

  /// Throws Error if there are none. The median of an even number is the mean of the middle two.
  static Spread of(std::vector<double> values);
};

struct Benchmark {
  int threads = 0;
  int64_t parameters = 0;
  double flops_per_token = 0;            ///< train_flops_per_token
  Spread step_seconds;                   ///< the phases' sum, step by step
  std::array<Spread, kPhases> phases;    ///< seconds, by Phase
  Spread gemm_flops;                     ///< FLOP/s of kernels::gemm, gemm_size³, in the step's compute type
  double first_loss = 0, last_loss = 0;  ///< nats per token, of all steps
  MemoryPlan predicted;
  size_t peak = 0;          ///< bytes that the arena had handed out at most during the timed steps
  size_t reserved = 0;      ///< bytes that the arena had from the system after them
  size_t process_peak = 0;  ///< the most that was ever resident of the process
  int64_t tokens = 0;       ///< of a step

  double tokens_per_second() const { return static_cast<double>(tokens) / step_seconds.median; }
  double flops() const { return tokens_per_second() * flops_per_token; }
  /// Of the machine's GEMM rate; medians of both.
  double gemm_share() const { return flops() / gemm_flops.median; }
};

/// Rows and columns of the product that the step is compared with.
constexpr int64_t gemm_size(Device device) {
  return device.is_cuda() ? 8192 : 2048;
}

/// Times options.steps training steps on random tokens that a Loader reads from a temporary shard. Between the steps
/// the matrix product is timed through the same kernel with the same threads, so that both see the machine in the same
/// state. `progress`, if given, hears of every step that is done, warm-up included. Throws ConfigError for a model that
/// is not possible, IoError if the temporary folder cannot be written, Error if a step's loss is not finite.
Benchmark run_benchmark(const BenchmarkOptions& options, const std::function<void(int64_t done)>& progress = {});

}  // namespace moeut
