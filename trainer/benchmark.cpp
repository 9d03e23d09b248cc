#include "trainer/benchmark.h"

#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <optional>

#include "core/check.h"
#include "core/memory.h"
#include "core/stopwatch.h"
#include "data/loader.h"
#include "trainer/benchmark/kernel_subject.h"
#include "trainer/device_reduction.h"
#include "trainer/exact_reduction.h"
#include "trainer/flops.h"
#include "trainer/random_tokens.h"
#include "trainer/step_graph.h"

namespace moeut {
namespace {

/// A square product through the kernel that the model uses, on its device.
class GemmMeter {
 public:
  GemmMeter(Device device, DType type) : watch_(device) {
    const KernelShape shape{.compute = type, .gemm_size = gemm_size(device)};
    flops_ = gemm_cost(shape).flops;
    run_ = gemm_subject().prepare(shape, device, 0);
  }

  /// FLOP/s of one product.
  double measure() {
    watch_.start();
    run_();
    watch_.stop();
    return flops_ / watch_.seconds();
  }

 private:
  Stopwatch watch_;
  double flops_ = 0;
  KernelRun run_;
};

/// So much that no batch comes twice in a short run, lest the model learns them by heart; at most 64 batches.
int64_t tokens_of_data(const BenchmarkOptions& options) {
  const int64_t batches = std::min<int64_t>(options.warmup + options.steps, 64);
  return batches * options.size.batch_size * options.size.seq_len + 1;
}

size_t most_resident() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

constexpr std::array<Phase, kPhases> kAllPhases = {Phase::data,      Phase::forward, Phase::backward,
                                                   Phase::optimizer, Phase::graph,   Phase::other};

/// The measurements of all timed steps.
struct Samples {
  std::vector<double> step, gemm;
  std::array<std::vector<double>, kPhases> phases;

  void add(const PhaseTimer& timer) {
    double total = 0;
    for (const Phase phase : kAllPhases) {
      phases[static_cast<size_t>(phase)].push_back(timer.seconds(phase));
      total += timer.seconds(phase);
    }
    step.push_back(total);
  }

  void summarise(Benchmark& result) {
    result.step_seconds = Spread::of(std::move(step));
    result.gemm_flops = Spread::of(std::move(gemm));
    for (size_t i = 0; i < kPhases; ++i) result.phases[i] = Spread::of(std::move(phases[i]));
  }
};

/// One training run of a few steps.
class Bench {
 public:
  Bench(const BenchmarkOptions& options, Benchmark& result)
      : options_(options),
        result_(result),
        gemm_(options.modules.device, options.modules.compute_type()),
        before_(memory_stats(options.modules.device).in_use),
        model_(options.model, options.seed, options.modules),
        alone_(options.nccl ? make_nccl_communicator(make_single_communicator(), options.modules.device)
                            : make_single_communicator()),
        optimizer_(options.optimizer, model_.parameters()),
        data_(options.model.n_tokens, tokens_of_data(options), options.seed),
        loader_(data_.dataset(), {.seed = options.seed, .seq_len = options.size.seq_len}) {
    loader_.start(0, options.size.batch_size);
    if (options.cuda_graph) graph_.emplace(model_, optimizer_);
    const StepSize& size = options.size;
    const int64_t micro = size.micro_batch_size > 0 ? size.micro_batch_size : size.batch_size;
    if (options.modules.device.is_cpu())  // as the trainer does
      reduction_ =
          std::make_unique<ExactReduction>(*alone_, model_.parameters(), (size.batch_size + micro - 1) / micro, false);
    if (options.nccl)
      reduction_ = std::make_unique<DeviceReduction>(*alone_, model_.parameters(), DeviceReduction::Options());
  }

  void run(const std::function<void(int64_t)>& progress) {
    Samples samples;
    gemm_.measure();  // warm-up
    for (int64_t i = 0; i < options_.warmup + options_.steps; ++i) {
      const bool timed = i >= options_.warmup;
      if (i == options_.warmup) reset_peak(options_.modules.device);
      const double gemm_flops = gemm_.measure();
      PhaseTimer timer;
      step(timer);
      if (timed) {
        samples.gemm.push_back(gemm_flops);
        samples.add(timer);
      }
      if (progress) progress(i + 1);
    }
    samples.summarise(result_);
    const MemoryStats stats = memory_stats(options_.modules.device);
    result_.peak = stats.peak - before_;
    result_.reserved = stats.reserved;
    result_.process_peak = most_resident();
  }

 private:
  void step(PhaseTimer& timer) {
    timer.enter(Phase::data);
    const Batch batch = loader_.next();
    StepOptions how{.lr = options_.optimizer.lr,
                    .seed = options_.seed,
                    .micro_batch_size = options_.size.micro_batch_size,
                    .recompute = options_.size.recompute,
                    .reduction = reduction_.get()};
    if (graph_) {
      timer.enter(Phase::graph);
      graph_->queue_step(batch, how);
    } else {
      how.timer = &timer;
      queue_step(model_, optimizer_, batch, how);
    }
    const StepResult step = optimizer_.read();
    timer.enter(Phase::other);
    require<Error>(step.updated, "benchmark: loss {}, regulariser {}, gradient norm {} are not all finite", step.loss,
                   step.reg_loss, step.grad_norm);
    if (steps_++ == 0) result_.first_loss = step.loss;
    result_.last_loss = step.loss;
  }

  const BenchmarkOptions& options_;
  Benchmark& result_;
  GemmMeter gemm_;
  size_t before_;  // what is in use beside the step
  MoeutLm model_;
  std::unique_ptr<Communicator> alone_;
  AdamW optimizer_;
  std::unique_ptr<GradientReduction> reduction_;
  std::optional<StepGraph> graph_;
  RandomTokens data_;
  Loader loader_;
  int64_t steps_ = 0;
};

}  // namespace

Spread Spread::of(std::vector<double> values) {
  require<Error>(!values.empty(), "benchmark: nothing was measured");
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  const double median = values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

Benchmark run_benchmark(const BenchmarkOptions& options, const std::function<void(int64_t)>& progress) {
  Benchmark result;
  result.threads = omp_get_max_threads();
  result.parameters = options.model.parameter_count();
  result.tokens = options.size.batch_size * options.size.seq_len;
  result.flops_per_token = train_flops_per_token(options.model, options.size.seq_len);
  result.predicted = plan_memory(options.model, options.modules, options.optimizer, options.size);
  Bench(options, result).run(progress);
  return result;
}

}  // namespace moeut
