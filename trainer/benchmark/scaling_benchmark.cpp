#include "trainer/benchmark/scaling_benchmark.h"

#include <omp.h>
#include <unistd.h>

#include <algorithm>

#include "core/check.h"

namespace moeut {
namespace {

constexpr double kGb = 1e9, kMicro = 1e-6;

// docs/scaling.md names the sources of these.
const KnownLink kNvlink{{370 * kGb, 3.4 * kMicro}, "default: NVLink, H100"};
const KnownLink kInfiniband{{46 * kGb, 14 * kMicro}, "default: InfiniBand, 400 Gb/s a GPU"};
constexpr double kCallSeconds = 30 * kMicro, kContention = 0.5;
const KnownLink kSharedMemory{{2 * kGb, 2 * kMicro}, "default: assumed"};
const KnownLink kEthernet{{1.1 * kGb, 30 * kMicro}, "default: 10 Gb/s Ethernet a rank, assumed"};

KnownLink known(KnownLink usual, const std::optional<double>& gb, const std::optional<double>& us) {
  if (gb) usual.link.bytes_per_second = *gb * kGb;
  if (us) usual.link.latency_seconds = *us * kMicro;
  if (gb || us) usual.source = gb && us ? "given" : "partly given, else " + usual.source;
  return usual;
}

class Scaling {
 public:
  Scaling(Ranks& ranks, const ScalingOptions& options) : ranks_(ranks), options_(options) {
    base_.step = options.step;
    base_.sharded = options.sharded;
    base_.precision = options.precision;
    micro_ = base_.micro_batch_size();
    per_rank_ = (options.step.size.batch_size + micro_ - 1) / micro_;
    most_ = *std::max_element(options.ranks.begin(), options.ranks.end());
    global_ = options.global_batch > 0 ? (options.global_batch + micro_ - 1) / micro_ : most_;
  }

  ScalingBenchmark run() {
    result_.steps = options_.step.steps;
    result_.threads = omp_get_max_threads();
    result_.cores = ::sysconf(_SC_NPROCESSORS_ONLN);
    result_.volume = gradient_volume(options_.step.model, options_.step.modules);
    find_links();
    std::optional<RankTiming> weak, strong;
    if (!ranks_.alone()) {
      weak = time_ranks(ranks_, of(per_rank_ * ranks_.size()));
      if (options_.global_batch > 0 && global_ >= ranks_.size()) strong = time_ranks(ranks_, of(global_));
    }
    measure_one(weak ? weak->all : 0);
    measure_sums();
    for (const int64_t n : options_.ranks) {
      result_.weak.push_back(row(n, per_rank_ * n, per_rank_, weak));
      if (global_ >= n) result_.strong.push_back(row(n, global_, global_, strong));
    }
    return std::move(result_);
  }

 private:
  bool on_cpu() const { return options_.step.modules.device.is_cpu(); }
  bool measures_link() const { return !ranks_.alone() && ranks_.communicator().device() == nullptr; }

  RankBenchmarkOptions of(int64_t micro_batches) const {
    RankBenchmarkOptions options = base_;
    options.micro_batches = micro_batches;
    return options;
  }

  void find_links() {
    KnownLink within = on_cpu() ? kSharedMemory : kNvlink;
    // These ranks' own link, whether within a host or between some.
    if (measures_link()) within = {measure_link(ranks_.communicator()), "measured"};
    result_.within = known(within, options_.within_gb, options_.within_us);
    result_.between = known(on_cpu() ? kEthernet : kInfiniband, options_.between_gb, options_.between_us);
    const int64_t fit = std::max<int64_t>(result_.cores / result_.threads, 1);
    const int64_t usual = on_cpu() ? std::max<int64_t>(fit, ranks_.size()) : 8;
    result_.cluster = {.ranks_per_host = options_.ranks_per_host > 0 ? options_.ranks_per_host : usual,
                       .within = result_.within.link,
                       .between = result_.between.link,
                       .call_seconds = on_cpu() ? 0 : kCallSeconds};
  }

  void measure_one(double others_sleep) {
    if (options_.cost) {
      result_.cost = *options_.cost;
      result_.cost_given = true;
      return;
    }
    const RankTiming alone = time_alone(ranks_, of(per_rank_), others_sleep);
    const auto count = static_cast<double>(per_rank_);
    result_.alone = alone;
    // The rounding of a sum of several micro-batches goes with them.
    result_.cost = {alone.forward / count, (alone.backward + alone.exchange) / count, alone.optimizer};
  }

  void measure_sums() {
    if (!on_cpu() || !ranks_.leads()) return;
    const int parts = static_cast<int>(std::clamp<int64_t>(ranks_.size(), 2, 8));
    result_.sum_seconds = measure_sum(parts, per_rank_ > 1 ? DType::f64 : options_.step.modules.dtype);
    const bool included = per_rank_ > 1 && !options_.cost;  // in the backward pass that was measured
    result_.add_seconds = included ? 0 : measure_add();
  }

  PredictedStep predict(int64_t n, int64_t micro_batches) const {
    const auto type = static_cast<double>(size_of(options_.step.modules.dtype));
    if (!on_cpu()) {
      const bool narrow = options_.precision == ReducePrecision::bf16;
      const DeviceExchange how{
          .sharded = options_.sharded, .contention = kContention, .gradient_bytes = narrow ? 2 : type};
      return predict_device_step(result_.cost, result_.volume, result_.cluster, how, n, micro_batches);
    }
    const auto busy = static_cast<double>(result_.cluster.ranks_here(n) * result_.threads);
    const HostExchange how{.sharded = options_.sharded,
                           .gradient_bytes = type,
                           .sum_seconds = result_.sum_seconds,
                           .add_seconds = result_.add_seconds,
                           .slowdown = std::max(1.0, busy / static_cast<double>(result_.cores))};
    return predict_host_step(result_.cost, result_.volume, result_.cluster, how, n, micro_batches);
  }

  double tokens_per_second(int64_t micro_batches, double seconds) const {
    return static_cast<double>(micro_batches * micro_ * options_.step.size.seq_len) / seconds;
  }

  ScalingRow row(int64_t n, int64_t micro_batches, int64_t one_micro_batches,
                 const std::optional<RankTiming>& measured) const {
    ScalingRow row{.predicted = predict(n, micro_batches), .sequences = micro_batches * micro_};
    const double one = predict(1, one_micro_batches).seconds(), seconds = row.predicted.seconds();
    row.tokens_per_second = tokens_per_second(micro_batches, seconds);
    row.efficiency = efficiency(one, one_micro_batches, seconds, micro_batches, n);
    if (!measured || n != ranks_.size()) return row;
    row.measured = measured;
    row.measured_tokens_per_second = tokens_per_second(micro_batches, measured->step.median);
    return row;
  }

  Ranks& ranks_;
  const ScalingOptions& options_;
  RankBenchmarkOptions base_;
  int64_t micro_ = 1, per_rank_ = 1, most_ = 1, global_ = 1;
  ScalingBenchmark result_;
};

}  // namespace

ScalingBenchmark run_scaling_benchmark(Ranks& ranks, const ScalingOptions& options) {
  require<ConfigError>(!options.ranks.empty(), "--ranks: no number of ranks");
  return Scaling(ranks, options).run();
}

}  // namespace moeut
