#include "trainer/benchmark/rank_benchmark.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/check.h"
#include "core/memory.h"
#include "data/loader.h"
#include "trainer/device_reduction.h"
#include "trainer/exact_reduction.h"
#include "trainer/random_tokens.h"
#include "trainer/train_step.h"

namespace moeut {
namespace {

using Clock = std::chrono::steady_clock;

/// Messages that links are measured with; the large one is a piece of 2²⁰ float32.
constexpr size_t kSmall = 8, kLarge = size_t{4} << 20;
/// Gradients that sums are measured with, each more than a cache holds.
constexpr int64_t kAddedElements = int64_t{1} << 24, kSummedElements = int64_t{1} << 23;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// Tells how long the ranks wait for each other and how long they exchange.
class TimedReduction final : public GradientReduction {
 public:
  TimedReduction(Communicator& communicator, GradientReduction& inner) : communicator_(communicator), inner_(inner) {}

  void watch(Tape& tape, bool last) override { inner_.watch(tape, last); }
  void add(AdamW& optimizer, const Tensor& loss, const Tensor& reg_loss) override {
    inner_.add(optimizer, loss, reg_loss);
  }
  void finish(AdamW& optimizer) override {
    const Clock::time_point start = Clock::now();
    if (communicator_.device() == nullptr) communicator_.barrier();
    waiting = seconds_since(start);
    inner_.finish(optimizer);
    exchange = seconds_since(start) - waiting;
  }

  double waiting = 0, exchange = 0;  // of the last step

 private:
  Communicator& communicator_;
  GradientReduction& inner_;
};

/// The reduction that the trainer takes, for parameters of a model.
struct Reduction {
  std::unique_ptr<GradientReduction> reduction;
  ShardExchange* shards = nullptr;
};

template <class R, class... Arguments>
Reduction made(bool sharded, Arguments&&... arguments) {
  auto reduction = std::make_unique<R>(std::forward<Arguments>(arguments)...);
  ShardExchange* shards = sharded ? reduction.get() : nullptr;
  return {std::move(reduction), shards};
}

Reduction make_reduction(Communicator& communicator, const std::vector<Parameter*>& parameters, Device device,
                         const RankBenchmarkOptions& options) {
  const bool sharded = options.sharded && !communicator.alone();
  if (communicator.device() != nullptr) {
    const DeviceReduction::Options how{.sharded = sharded, .precision = options.precision};
    return made<DeviceReduction>(sharded, communicator, parameters, how);
  }
  if (!device.is_cpu()) return {};
  return made<ExactReduction>(sharded, communicator, parameters, options.micro_batches, sharded);
}

struct Samples {
  std::vector<double> step, forward, backward, waiting, exchange, optimizer;

  RankTiming summary() const {
    RankTiming timing{.step = Spread::of(step)};
    timing.forward = Spread::of(forward).median;
    timing.backward = Spread::of(backward).median;
    timing.waiting = Spread::of(waiting).median;
    timing.exchange = Spread::of(exchange).median;
    timing.optimizer = Spread::of(optimizer).median;
    return timing;
  }
};

/// One rank's part of the run.
class RankRun {
 public:
  RankRun(Communicator& communicator, const RankBenchmarkOptions& options)
      : options_(options),
        // The waits at the borders of phases would keep NCCL from hiding anything.
        timed_phases_(communicator.device() == nullptr),
        share_(share_of(options.micro_batches, communicator.rank(), communicator.size())),
        model_(options.step.model, options.step.seed, options.step.modules),
        reduction_(make_reduction(communicator, model_.parameters(), options.step.modules.device, options)),
        optimizer_(options.step.optimizer, model_.parameters(), reduction_.shards),
        data_(options.step.model.n_tokens, tokens_of_data(), options.step.seed),
        loader_(data_.dataset(), {.seed = options.step.seed, .seq_len = options.step.size.seq_len}) {
    if (reduction_.reduction) timed_.emplace(communicator, *reduction_.reduction);
    const int64_t size = options.micro_batch_size();
    loader_.start(static_cast<uint64_t>(share_.first * size), share_.count * size, options.micro_batches * size);
  }

  void step(Samples* samples) {
    const Batch batch = loader_.next();
    const int64_t size = options_.micro_batch_size(), sequences = options_.micro_batches * size;
    const auto start = Clock::now();
    PhaseTimer timer;
    const StepOptions how{.lr = options_.step.optimizer.lr,
                          .seed = options_.step.seed,
                          .micro_batch_size = size,
                          .recompute = options_.step.size.recompute,
                          .timer = timed_phases_ ? &timer : nullptr,
                          .reduction = timed_ ? &*timed_ : nullptr,
                          .whole = WholeBatch{sequences, sequences * options_.step.size.seq_len}};
    const StepResult result = train_step(model_, optimizer_, batch, how);
    const double seconds = seconds_since(start);
    timer.enter(Phase::other);
    require<Error>(result.updated, "benchmark: loss {}, regulariser {}, gradient norm {} are not all finite",
                   result.loss, result.reg_loss, result.grad_norm);
    if (samples != nullptr) note(*samples, seconds, timer);
  }

 private:
  int64_t tokens_of_data() const {
    const int64_t steps = std::min<int64_t>(options_.step.warmup + options_.step.steps, 64);
    return steps * options_.micro_batches * options_.micro_batch_size() * options_.step.size.seq_len + 1;
  }

  void note(Samples& samples, double seconds, const PhaseTimer& timer) const {
    const bool timed = timed_ && timed_phases_;
    const double waiting = timed ? timed_->waiting : 0, exchange = timed ? timed_->exchange : 0;
    samples.step.push_back(seconds);
    samples.forward.push_back(timer.seconds(Phase::forward));
    samples.backward.push_back(timer.seconds(Phase::backward));
    samples.waiting.push_back(waiting);
    samples.exchange.push_back(exchange);
    samples.optimizer.push_back(std::max(0.0, timer.seconds(Phase::optimizer) - waiting - exchange));
  }

  const RankBenchmarkOptions& options_;
  bool timed_phases_;
  MicroBatchShare share_;
  MoeutLm model_;
  Reduction reduction_;
  AdamW optimizer_;
  std::optional<TimedReduction> timed_;
  RandomTokens data_;
  Loader loader_;
};

RankTiming time_steps(RankRun& run, const RankBenchmarkOptions& options) {
  for (int64_t i = 0; i < options.step.warmup; ++i) run.step(nullptr);
  Samples samples;
  for (int64_t i = 0; i < options.step.steps; ++i) run.step(&samples);
  return samples.summary();
}

/// Messages of a size between all ranks. Their places change from one exchange to the next, as those of gradients do:
/// nothing is in a cache yet.
class ExchangeMeter {
 public:
  ExchangeMeter(Communicator& communicator, size_t bytes)
      : communicator_(communicator),
        bytes_(bytes),
        out_(kPlaces * bytes),
        in_(kPlaces * bytes * static_cast<size_t>(communicator.size())) {}

  /// Median seconds, the slowest rank's.
  double measure(int times) {
    std::vector<double> seconds;
    for (int i = 0; i < times; ++i) {
      communicator_.barrier();
      const Clock::time_point start = Clock::now();
      exchange(static_cast<size_t>(i) % kPlaces);
      seconds.push_back(seconds_since(start));
    }
    const auto all = communicator_.all_gather_value(Spread::of(seconds).median);
    return *std::max_element(all.begin(), all.end());
  }

 private:
  static constexpr size_t kPlaces = 16;

  /// From every rank to every other one, and as much back.
  void exchange(size_t place) {
    std::vector<Message> sends, receives;
    for (int peer = 0; peer < communicator_.size(); ++peer) {
      if (peer == communicator_.rank()) continue;
      sends.push_back({peer, out_.data() + place * bytes_, bytes_});
      receives.push_back({peer, in_.data() + (static_cast<size_t>(peer) * kPlaces + place) * bytes_, bytes_});
    }
    communicator_.exchange(sends, receives);
  }

  Communicator& communicator_;
  size_t bytes_;
  std::vector<char> out_, in_;
};

}  // namespace

int64_t RankBenchmarkOptions::micro_batch_size() const {
  const StepSize& size = step.size;
  return size.micro_batch_size > 0 ? std::min(size.micro_batch_size, size.batch_size) : size.batch_size;
}

RankTiming time_ranks(Ranks& ranks, const RankBenchmarkOptions& options) {
  const Clock::time_point start = Clock::now();
  std::unique_ptr<RankRun> run;
  ranks.together([&] { run = std::make_unique<RankRun>(ranks.communicator(), options); });
  RankTiming timing = time_steps(*run, options);
  ranks.communicator().barrier();
  timing.all = seconds_since(start);
  return timing;
}

RankTiming time_alone(Ranks& ranks, const RankBenchmarkOptions& options, double others_sleep) {
  RankTiming timing;
  const auto measure = [&] {
    const auto alone = make_single_communicator();
    RankRun run(*alone, options);
    timing = time_steps(run, options);
  };
  // In MPI's own waits they would keep a core busy.
  const auto sleep = [&] { std::this_thread::sleep_for(std::chrono::duration<double>(others_sleep)); };
  ranks.together([&] { ranks.leads() ? measure() : sleep(); });
  return timing;
}

Link measure_link(Communicator& communicator) {
  ExchangeMeter small(communicator, kSmall), large(communicator, kLarge);
  large.measure(16);  // warm-up
  const double latency = small.measure(200), seconds = large.measure(48);
  const auto peers = static_cast<double>(communicator.size() - 1);
  return {.bytes_per_second = peers * kLarge / std::max(seconds - latency, 1e-9), .latency_seconds = latency};
}

double measure_add() {
  const Tensor gradient = Tensor::from<float>(std::vector<float>(kAddedElements, 0.25F), {kAddedElements});
  GradientSum sum(gradient);
  sum.set(gradient);
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const Clock::time_point start = Clock::now();
    sum.add(gradient);
    seconds.push_back(seconds_since(start));
  }
  return Spread::of(seconds).median / static_cast<double>(kAddedElements);
}

double measure_sum(int parts, DType type) {
  const auto count = static_cast<size_t>(parts);
  std::vector<std::vector<double>> values(count, std::vector<double>(kSummedElements, 0.25));  // as floats: 0, 1.625, …
  std::vector<GradientPart> all;
  all.reserve(count);
  for (const auto& part : values) all.push_back({.values = part.data(), .type = type});
  std::vector<float> sum(kSummedElements);
  std::vector<double> seconds;
  for (int i = 0; i < 5; ++i) {
    const Clock::time_point start = Clock::now();
    sum_parts<float>(all, kSummedElements, sum.data());
    seconds.push_back(seconds_since(start));
  }
  return Spread::of(seconds).median / static_cast<double>(kSummedElements) / parts;
}

}  // namespace moeut
