// What can only be seen with several processes, for scripts/multi-gpu-check and for mpirun on CPUs:
//
//   communicator [PROFILE]   every collective on known values, on the host and between GPUs
//   parameters PROFILE       weights and moments of a model are the same bits on all ranks after each step
//   overflow FOLDER          fp16: one rank's overflow is everybody's; goes on from the checkpoint in FOLDER
//   trace PROFILE            when gradients travel, beside the backward pass (GPUs)
//   bandwidth [PROFILE]      sums of 1 MiB to 1 GiB between GPUs, in GB/s of bus bandwidth
//
//   mpirun -np N moeut-rank-check communicator [44M [DEVICE [RENDEZVOUS]]]
//
// Prints one line a result on rank 0. Exit status 1: something is not as it must be.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "autograd/op.h"
#include "core/check.h"
#include "core/memory.h"
#include "data/hash.h"
#include "layers/moeut_lm.h"
#include "tests/ranks/checks.h"
#include "tests/ranks/overflow.h"
#include "trainer/device_reduction.h"
#include "trainer/exact_reduction.h"
#include "trainer/random_tokens.h"
#include "trainer/ranks.h"
#include "trainer/run_inputs.h"
#include "trainer/step_graph.h"
#include "trainer/train_step.h"

namespace moeut {
namespace {

// ---------------------------------------------------------------- communicator

void check_host(Ranks& ranks, Checks& checks) {
  Communicator& c = ranks.communicator();
  const auto values = c.all_gather_value<int>(10 + c.rank());
  bool right = true;
  for (int rank = 0; rank < c.size(); ++rank) right = right && values[static_cast<size_t>(rank)] == 10 + rank;
  checks.expect("all_gather", right);
  checks.expect("broadcast from the last rank",
                c.broadcast("from " + std::to_string(c.rank()), c.size() - 1) == fmt::format("from {}", c.size() - 1));
  const auto texts = c.all_gather(std::string(static_cast<size_t>(c.rank()), 'x'));
  right = true;
  for (size_t rank = 0; rank < texts.size(); ++rank) right = right && texts[rank].size() == rank;
  checks.expect("all_gather of texts of unequal length", right);
  // Everyone to everyone, two messages each, so long that none fits a buffer of the library.
  constexpr size_t kLong = 3 << 20;
  const auto count = static_cast<size_t>(c.size());
  std::vector<std::vector<int>> out(count), in(count), first(count);
  std::vector<int> greeting(count);
  std::vector<Message> sends, receives;
  for (int peer = 0; peer < c.size(); ++peer) {
    if (peer == c.rank()) continue;
    const auto p = static_cast<size_t>(peer);
    greeting[p] = 1000 * c.rank() + peer;
    out[p].assign(kLong, c.rank() * 7 + peer);
    in[p].resize(kLong);
    first[p].resize(1);
    sends.push_back({peer, &greeting[p], sizeof(int)});
    sends.push_back({peer, out[p].data(), kLong * sizeof(int)});
    receives.push_back({peer, first[p].data(), sizeof(int)});
    receives.push_back({peer, in[p].data(), kLong * sizeof(int)});
  }
  c.exchange(sends, receives);
  right = true;
  for (int peer = 0; peer < c.size(); ++peer) {
    if (peer == c.rank()) continue;
    const auto p = static_cast<size_t>(peer);
    right = right && first[p][0] == 1000 * peer + c.rank() && in[p].front() == peer * 7 + c.rank() &&
            in[p].back() == peer * 7 + c.rank();
  }
  checks.expect("exchange", right);
}

std::vector<double> as_doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

bool all_are(const Tensor& tensor, double value) {
  const std::vector<double> values = tensor.dtype() == DType::f64
                                         ? tensor.to(Device::cpu()).to_vector<double>()
                                         : as_doubles(as_type(tensor, DType::f32).to_vector<float>());
  return std::all_of(values.begin(), values.end(), [&](double x) { return x == value; });
}

Tensor filled(double value, int64_t count, DType type, Device device) {
  if (type == DType::f64)
    return Tensor::from<double>(std::vector<double>(static_cast<size_t>(count), value), {count}, device);
  const std::vector<float> values(static_cast<size_t>(count), static_cast<float>(value));
  return as_type(Tensor::from<float>(values, {count}, device), type);
}

void check_device(Ranks& ranks, Checks& checks) {
  DeviceCollectives* collectives = ranks.communicator().device();
  if (collectives == nullptr) return;
  const double sum = ranks.size() * (ranks.size() + 1) / 2.0;
  constexpr int64_t kCount = 1000003;
  for (const DType type : {DType::f32, DType::f64, DType::bf16}) {
    const auto own = [&] { return filled(ranks.rank() + 1, kCount, type, ranks.device()); };
    Tensor x = own();
    collectives->sum(x.raw(), kCount, type, nullptr);
    checks.expect(fmt::format("sum of {}", name_of(type)), all_are(x, sum));
    for (int root = 0; root < ranks.size(); ++root) {
      Tensor y = own();
      collectives->sum_to(root, y.raw(), kCount, type, nullptr);
      checks.expect(fmt::format("sum of {} on rank {}", name_of(type), root), ranks.rank() != root || all_are(y, sum));
      Tensor z = own();
      collectives->broadcast(root, z.raw(), z.bytes(), nullptr);
      checks.expect(fmt::format("broadcast of {} from rank {}", name_of(type), root), all_are(z, root + 1));
    }
  }
}

int communicator(Ranks& ranks, const std::string&) {
  Checks checks(ranks);
  check_host(ranks, checks);
  check_device(ranks, checks);
  return checks.status();
}

// ---------------------------------------------------------------- steps

enum class Sums { early, late, none };

struct How {
  bool sharded = false, graph = false;
  Sums sums = Sums::early;  ///< of gradients, on GPUs
  ReductionTrace* trace = nullptr;
};

/// A model that trains on random tokens as Run does.
class Trainee {
 public:
  Trainee(Ranks& ranks, const std::string& name, int64_t per_rank, int64_t seq_len, const How& how)
      : ranks_(ranks),
        config_(profile(name)),
        per_rank_(per_rank),
        model_(config_, 1,
               module_options(ranks.device().is_cuda() ? Precision::bf16 : Precision::fp32, ranks.device())),
        data_(config_.n_tokens, per_rank * ranks.size() * seq_len * 4 + 1, 3),
        loader_(data_.dataset(), {.seed = 3, .seq_len = seq_len}) {
    ShardExchange* shards = nullptr;
    if (ranks.communicator().device() != nullptr) {
      auto made = std::make_unique<DeviceReduction>(
          ranks.communicator(), model_.parameters(),
          DeviceReduction::Options{.sharded = how.sharded, .overlap = how.sums == Sums::early, .trace = how.trace});
      shards = made.get();
      reduction_ = std::move(made);
    } else {
      auto made =
          std::make_unique<ExactReduction>(ranks.communicator(), model_.parameters(), ranks.size(), how.sharded);
      shards = made.get();
      reduction_ = std::move(made);
    }
    optimizer_.emplace(OptimizerSection(), model_.parameters(), how.sharded ? shards : nullptr);
    if (how.sums == Sums::none) reduction_.reset();
    if (how.graph) graph_.emplace(model_, *optimizer_);
  }

  StepResult step() {
    const int64_t whole = per_rank_ * ranks_.size();
    const Batch batch = loader_.get(next_ + static_cast<uint64_t>(ranks_.rank() * per_rank_), per_rank_);
    next_ += static_cast<uint64_t>(whole);
    const StepOptions options{.lr = 1e-3,
                              .seed = 1,
                              .micro_batch_size = per_rank_,
                              .reduction = reduction_.get(),
                              .whole = WholeBatch{whole, whole * batch.seq_len}};
    graph_ ? graph_->queue_step(batch, options) : queue_step(model_, *optimizer_, batch, options);
    return optimizer_->read();
  }

  /// Of all values, and of the moments where every rank has all.
  std::string hash() {
    optimizer_->share_values();
    Xxh3 hash;
    const auto add = [&](const Tensor& tensor) {
      const Tensor host = tensor.to(Device::cpu());
      hash.update(host.raw(), host.bytes());
    };
    model_.visit_parameters([&](Parameter& p) {
      add(p.value);
      if (p.narrow.defined()) add(p.narrow);
    });
    if (optimizer_->shards() == nullptr)
      for (const AdamW::Moments& m : optimizer_->moments()) add(m.exp_avg), add(m.exp_avg_sq);
    return hash.hex();
  }

 private:
  Ranks& ranks_;
  ModelConfig config_;
  int64_t per_rank_;
  MoeutLm model_;
  RandomTokens data_;
  Loader loader_;
  std::unique_ptr<GradientReduction> reduction_;
  std::optional<AdamW> optimizer_;
  std::optional<StepGraph> graph_;
  uint64_t next_ = 0;
};

/// Median seconds of a recorded step, all ranks at their slowest.
double seconds_of_step(Ranks& ranks, const std::string& name, const How& how) {
  Trainee trainee(ranks, name, 32, 1024, how);
  std::vector<double> seconds;
  for (int step = 0; step < 16; ++step) {
    ranks.communicator().barrier();
    const auto begin = std::chrono::steady_clock::now();
    trainee.step();
    const double own = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const auto all = ranks.communicator().all_gather_value(own);
    if (step >= 5) seconds.push_back(*std::max_element(all.begin(), all.end()));
  }
  std::nth_element(seconds.begin(), seconds.begin() + 5, seconds.end());
  return seconds[5];
}

/// What it costs that gradients travel, and what it buys that they do so early.
void compare_schedules(Ranks& ranks, const std::string& name) {
  for (const bool sharded : {false, true}) {
    const double none = seconds_of_step(ranks, name, {.sharded = false, .graph = true, .sums = Sums::none});
    const double late = seconds_of_step(ranks, name, {.sharded = sharded, .graph = true, .sums = Sums::late});
    const double early = seconds_of_step(ranks, name, {.sharded = sharded, .graph = true, .sums = Sums::early});
    if (!ranks.leads()) continue;
    fmt::print(
        "schedule {}{}: {:.2f} ms a step without communication, {:.2f} with sums after the backward pass (+{:.1f} %), "
        "{:.2f} "
        "with sums beside it (+{:.1f} %)\n",
        name, sharded ? " ZeRO-1" : "", 1e3 * none, 1e3 * late, 100 * (late / none - 1), 1e3 * early,
        100 * (early / none - 1));
  }
}

int parameters(Ranks& ranks, const std::string& name) {
  Checks checks(ranks);
  const bool gpu = ranks.device().is_cuda();
  for (const bool sharded : {false, true}) {
    Trainee trainee(ranks, name, gpu ? 4 : 1, gpu ? 1024 : 32, {.sharded = sharded});
    const int steps = gpu ? 10 : 2;
    bool same = true;
    for (int step = 0; step < steps; ++step) {
      const StepResult result = trainee.step();
      const auto hashes = ranks.communicator().all_gather(trainee.hash());
      same = same && result.updated && std::count(hashes.begin(), hashes.end(), hashes[0]) == ranks.size();
    }
    checks.expect(fmt::format("{}: weights{} are the same bits on all ranks after each of {} steps{}", name,
                              sharded ? "" : " and moments", steps, sharded ? ", sharded optimizer" : ""),
                  same);
  }
  return checks.status();
}

int trace(Ranks& ranks, const std::string& name) {
  require<ConfigError>(ranks.communicator().device() != nullptr, "trace: needs GPUs");
  ReductionTrace trace;
  {
    Trainee trainee(ranks, name, 32, 1024, {.trace = &trace});
    for (int step = 0; step < 3; ++step) {
      trace = {};
      trainee.step();
    }
  }
  trim(ranks.device());
  compare_schedules(ranks, name);
  if (!ranks.leads()) return 0;
  double inside = 0, all = 0;
  for (const auto& bucket : trace.buckets) {
    const double took = backend::seconds_between(bucket.begin, bucket.end);
    const double begin = backend::seconds_between(bucket.begin, trace.backward_end);  // before the pass ended
    const double hidden = std::clamp(begin, 0.0, took);
    fmt::print(
        "bucket of {:7.1f} MiB: begins {:8.3f} ms before the backward pass ends, takes {:7.3f} ms, {:5.1f} % of it "
        "beside\n",
        static_cast<double>(bucket.bytes) / (1 << 20), 1e3 * begin, 1e3 * took, 100 * hidden / took);
    inside += hidden;
    all += took;
  }
  fmt::print("trace {}: communication {:.3f} ms a step, {:.1f} % of it beside the backward pass\n", name, 1e3 * all,
             100 * inside / all);
  return 0;
}

int bandwidth(Ranks& ranks, const std::string&) {
  DeviceCollectives* collectives = ranks.communicator().device();
  require<ConfigError>(collectives != nullptr, "bandwidth: needs GPUs");
  const int device = ranks.device().index();
  const auto begin = backend::create_event(device), end = backend::create_event(device);
  for (int64_t bytes = 1 << 20; bytes <= int64_t{1} << 30; bytes *= 4) {
    Tensor x = Tensor::zeros({bytes / 4}, DType::f32, ranks.device());
    std::vector<double> seconds;
    for (int i = 0; i < 12; ++i) {
      backend::record(begin, nullptr);
      collectives->sum(x.raw(), x.size(), DType::f32, nullptr);
      backend::record(end, nullptr);
      if (i > 1) seconds.push_back(backend::seconds_between(begin, end));
      synchronize(ranks.device());
    }
    std::nth_element(seconds.begin(), seconds.begin() + 5, seconds.end());
    const double bus = 2.0 * (ranks.size() - 1) / ranks.size() * static_cast<double>(bytes) / seconds[5];
    if (ranks.leads())
      fmt::print("sum of {:5} MiB: {:8.3f} ms, {:6.1f} GB/s of bus bandwidth\n", bytes >> 20, 1e3 * seconds[5],
                 bus / 1e9);
  }
  return 0;
}

/// One rank on a GPU uses NCCL as well.
std::shared_ptr<Ranks> gather(const RunConfig& config) {
  const Device device = find_device(config.device);
  if (find_place(config.train.rendezvous).size > 1 || !device.is_cuda() || !has_nccl()) return Ranks::gather(config);
  return std::make_shared<Ranks>(make_nccl_communicator(make_single_communicator(), device), device, WatchdogOptions());
}

int run_command(int argc, char** argv) {
  require<ConfigError>(argc >= 2,
                       "usage: moeut-rank-check communicator|parameters|overflow|trace|bandwidth [PROFILE or FOLDER "
                       "[DEVICE [RENDEZVOUS]]]");
  const std::string command = argv[1], name = argc > 2 ? argv[2] : "44M";
  RunConfig config;
  if (argc > 3) config.device = argv[3];
  if (argc > 4) config.train.rendezvous = argv[4];
  const auto ranks = gather(config);
  int (*const action)(Ranks&, const std::string&) = command == "communicator" ? communicator
                                                    : command == "parameters" ? parameters
                                                    : command == "overflow"   ? overflow
                                                    : command == "trace"      ? trace
                                                    : command == "bandwidth"  ? bandwidth
                                                                              : nullptr;
  require<ConfigError>(action != nullptr, "unknown command '{}'", command);
  const int status = action(*ranks, name);
  ranks->close();
  return status;
}

}  // namespace
}  // namespace moeut

int main(int argc, char** argv) {
  try {
    return moeut::run_command(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "moeut-rank-check: %s\n", error.what());
    return 1;
  }
}
