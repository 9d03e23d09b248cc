// moeut-bench: how fast a training step, a kernel or the loader is on this machine, and how much memory a step takes.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <new>

#include "core/check.h"
#include "trainer/benchmark/kernel_report.h"
#include "trainer/benchmark/loader_benchmark.h"
#include "trainer/benchmark/scaling_benchmark.h"
#include "trainer/benchmark_report.h"
#include "trainer/config_fields.h"
#include "trainer/config_load.h"
#include "trainer/run_inputs.h"
#include "trainer/threads.h"

namespace moeut {
namespace {

constexpr const char* kFooter =
    "FLOP of a step: tokens x 6 x the multiply-adds of one token's forward pass,\n"
    "  L*(2*K*S*D + E*D + 2*H*Ka*P*D + 2*H*Ea*D + 2*D*H*P + 2*H*P*(T+1)/2) + V*D\n"
    "(experts, router, attention's experts and routers, queries and keys, causal attention, head).\n"
    "With --kernel a run's bytes are the least it must move: operands read once, results written once; its share is "
    "that\n"
    "of the roofline max(bytes / copy rate, FLOP / GEMM rate), both measured in the same run.\n"
    "With --ranks, or started by mpirun: docs/scaling.md has the formulas.\n"
    "What --recompute computes a second time is not counted.\n"
    "Exit status: 0 done; 1 something on disk or at run time is wrong; 2 the command line or configuration is wrong.";

/// The command line. Options that stand for a configuration key are texts, checked as that key's values.
struct Command {
  std::string profile, config;
  std::vector<std::string> kernels;
  std::vector<std::pair<std::string, std::string>> keys;  ///< configuration key, value
  int64_t steps = 10, warmup = 2;
  bool dry_run = false, json = false, nccl = false, loader = false;
  ScalingOptions scaling;  ///< with ranks, if asked for
  std::vector<double> compute_ms;

  void declare(CLI::App& app) {
    CLI::Option* named = app.add_option(
        "--profile", profile,
        "A profile of the paper: 44M, 126M, 244M, 318M, 727M or 1B (with --kernel: 244M; with --ranks also: all)");
    app.add_option("--config", config,
                   "The model and step of a configuration file instead; the options below override it")
        ->excludes(named);
    key(app, "--device", "device", "cpu, cuda, cuda:N or auto (default: auto)");
    key(app, "--precision", "train.precision", "fp32, fp64, ... (default: fp32)");
    key(app, "--batch", "train.batch_size", "Sequences of a step (default: 1)");
    key(app, "--seq", "train.seq_len", "Tokens of a sequence (default: 1024)");
    app.add_flag_callback(
        "--recompute", [this] { keys.emplace_back("train.recompute", "true"); },
        "Run layers again in the backward pass instead of keeping what they computed");
    key(app, "--cuda-graph", "train.cuda_graph", "Run steps as a CUDA graph: auto, on or off (default: auto)");
    key(app, "--threads", "train.threads", "CPU threads; 0: all cores (default: 0)");
    const CLI::Range counts(int64_t{1}, int64_t{1} << 30), counts_or_none(int64_t{0}, int64_t{1} << 30);
    app.add_option("--steps", steps, "Steps, or runs of a kernel, that are timed")
        ->check(counts)
        ->capture_default_str();
    app.add_option("--warmup", warmup, "Steps or runs before them")->check(counts_or_none)->capture_default_str();
    CLI::Option* predict = app.add_flag("--dry-run", dry_run, "Print the predicted memory and stop");
    CLI::Option* data = app.add_flag("--loader", loader,
                                     "Time the making of batches instead of a step, beside a plain copy (defaults: "
                                     "44M's vocabulary, --batch 64)")
                            ->excludes(predict);
    app.add_option("--kernel", kernels,
                   "Time a kernel by itself instead of a step; 'all' or, given more than once, of: " +
                       fmt::format("{}", fmt::join(kernel_names(), ", ")))
        ->allow_extra_args(false)
        ->excludes(predict)
        ->excludes(data);
    app.add_flag("--nccl", nccl, "The gradients go through NCCL, as those of a rank of several do")->excludes(data);
    declare_scaling(app, predict, data);
    app.add_flag("--json", json, "Print one JSON object");
    app.footer(kFooter);
  }

 private:
  void declare_scaling(CLI::App& app, CLI::Option* predict, CLI::Option* data) {
    CLI::Option* ranks =
        app.add_option("--ranks", scaling.ranks,
                       "Predict the scaling to so many ranks; --profile all for each of the six. Under "
                       "mpirun its ranks are measured as well")
            ->delimiter(',')
            ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
            ->excludes(predict)
            ->excludes(data);
    const CLI::Range counts(int64_t{1}, int64_t{1} << 30);
    const CLI::Range rates(1e-6, 1e6), latencies(0.0, 1e9);
    key(app, "--micro-batch", "train.micro_batch_size", "Sequences computed at once (default: all of --batch)");
    app.add_option(
           "--global-batch", scaling.global_batch,
           "Sequences of a step of strong scaling (default: a micro-batch for each of the most ranks); measured "
           "only if given")
        ->check(counts);
    app.add_option("--ranks-per-host", scaling.ranks_per_host, "Default: 8; on CPUs one for every --threads cores")
        ->check(counts);
    app.add_option("--link-gb-s", scaling.within_gb, "What a rank sends within its host, GB/s")->check(rates);
    app.add_option("--link-us", scaling.within_us, "Latency there, microseconds")->check(latencies);
    app.add_option("--host-link-gb-s", scaling.between_gb, "A rank's share of the network between hosts, GB/s")
        ->check(rates);
    app.add_option("--host-link-us", scaling.between_us, "Latency there, microseconds")->check(latencies);
    app.add_option("--compute-ms", compute_ms,
                   "FORWARD,BACKWARD,OPTIMIZER of one rank, in ms, instead of a measurement: the first two of a "
                   "micro-batch. --device says of what; it need not be here")
        ->delimiter(',')
        ->expected(3)
        ->needs(ranks);
    key(app, "--rendezvous", "train.rendezvous", "How ranks without MPI meet: tcp:HOST:PORT or file:PATH");
    key(app, "--shard-optimizer", "train.shard_optimizer", "true: as train.shard_optimizer (ZeRO-1)");
    key(app, "--reduce-precision", "train.reduce_precision", "fp32 or bf16, on GPUs (default: fp32)");
  }

  void key(CLI::App& app, const char* option, const char* name, const char* help) {
    const auto keep = [this, name](const std::string& value) { keys.emplace_back(name, value); };
    app.add_option_function<std::string>(option, keep, help);
  }
};

RunConfig configuration(const Command& command) {
  RunConfig config;
  const char* usual = command.loader ? "44M" : command.kernels.empty() ? "" : "244M";
  const std::string profile_name = command.profile.empty() ? usual : command.profile;
  if (!command.config.empty()) {
    config = load_config(command.config).config;
  } else {
    require<ConfigError>(!profile_name.empty(), "give --profile NAME or --config FILE");
    config.model.profile = profile_name;
    config.model.n_tokens = profile(profile_name).n_tokens;
    config.train.batch_size = command.loader ? 64 : 1;
  }
  for (const auto& [key, text] : command.keys) {
    const Field& field = *find_field(key);
    try {
      field.set(config, parse_value(field, text, false));
    } catch (const ConfigError& error) {
      throw ConfigError(fmt::format("{}: {}", key, error.what()));
    }
  }
  return config;
}

/// A configuration may leave the vocabulary to its data; any other mistake in the model's arguments shows first.
ModelConfig model_of(const RunConfig& config) {
  ModelConfig model = model_config(config.model, 1);
  return config.model.n_tokens.value_or(0) > 0 ? model : open_inputs(config).model;
}

BenchmarkOptions options_of(const RunConfig& config, const Command& command, Device device) {
  const TrainSection& train = config.train;
  BenchmarkOptions options{.optimizer = config.optimizer,
                           .size = {.batch_size = train.batch_size,
                                    .micro_batch_size = train.micro_batch_size,
                                    .seq_len = train.seq_len,
                                    .recompute = train.recompute},
                           .modules = module_options(train.precision, device),
                           .seed = config.seed,
                           .steps = command.steps,
                           .warmup = command.warmup};
  options.nccl = command.nccl;
  require<ConfigError>(!options.nccl || options.modules.device.is_cuda(), "--nccl needs a GPU; give --device cuda");
  options.model = model_of(config);
  return options;
}

BenchmarkSubject subject_of(const RunConfig& config, const Command& command) {
  return {.model = command.config.empty() ? "profile " + config.model.profile : command.config,
          .precision = value_text(find_field("train.precision")->get(config))};
}

void measure_kernels(const RunConfig& config, const Command& command, bool watched) {
  const Device device = find_device(config.device);
  const KernelBenchmarkOptions options{
      .shape = {.model = model_of(config),
                .batch = config.train.batch_size,
                .time = config.train.seq_len,
                .compute = module_options(config.train.precision, device).compute_type(),
                .gemm_size = gemm_size(device),
                .copy_bytes = copy_size(device)},
      .device = device,
      .kernels = command.kernels,
      .runs = command.steps,
      .warmup = command.warmup};
  const KernelBenchmark result = run_kernel_benchmark(options, [&](const std::string& name) {
    if (watched) fmt::print(stderr, "\r\033[K{} ...", name);
  });
  if (watched) fmt::print(stderr, "\r\033[K");
  const BenchmarkSubject subject = subject_of(config, command);
  fmt::print("{}", command.json ? kernel_json(subject, options, result).dump(2) + "\n"
                                : kernel_text(subject, options, result));
}

void measure_loader(const RunConfig& config, const Command& command) {
  const LoaderBenchmarkOptions options{.batch_size = config.train.batch_size,
                                       .seq_len = config.train.seq_len,
                                       .vocabulary = model_of(config).n_tokens,
                                       .runs = command.steps,
                                       .warmup = command.warmup,
                                       .seed = config.seed};
  const LoaderBenchmark result = run_loader_benchmark(options);
  fmt::print("{}", command.json ? loader_json(options, result).dump(2) + "\n" : loader_text(options, result));
}

ScalingOptions scaling_options(const RunConfig& config, const Command& command, const Ranks& ranks) {
  ScalingOptions options = command.scaling;
  options.step = options_of(config, command, ranks.device());
  options.sharded = config.train.shard_optimizer;
  options.precision = config.train.reduce_precision;
  if (!ranks.alone() && std::ranges::find(options.ranks, ranks.size()) == options.ranks.end())
    options.ranks.push_back(ranks.size());
  std::ranges::sort(options.ranks);
  if (!command.compute_ms.empty())
    options.cost = {command.compute_ms[0] / 1e3, command.compute_ms[1] / 1e3, command.compute_ms[2] / 1e3};
  return options;
}

/// All ranks measure, rank 0 prints.
void measure_scaling(const RunConfig& config, const Command& command, Ranks& ranks) {
  const ScalingOptions options = scaling_options(config, command, ranks);
  const ScalingBenchmark result = run_scaling_benchmark(ranks, options);
  if (!ranks.leads()) return;
  const BenchmarkSubject subject = subject_of(config, command);
  fmt::print("{}", command.json ? scaling_json(subject, options, result).dump(2) + "\n"
                                : scaling_text(subject, options, result));
  std::fflush(stdout);
}

/// Where all times are given, the device need not be here.
std::shared_ptr<Ranks> gather_ranks(const RunConfig& config, const Command& command) {
  if (command.compute_ms.empty()) return Ranks::gather(config);
  const Device device = config.device.starts_with("cuda") ? Device::cuda(0) : Device::cpu();
  return std::make_shared<Ranks>(make_single_communicator(), device, WatchdogOptions());
}

void measure_all_scaling(Command command) {
  const bool all = command.profile == "all";
  if (all) command.profile = profile_names().front();
  const RunConfig config = configuration(command);
  set_cpu_threads(config.train.threads);
  const auto ranks = gather_ranks(config, command);
  for (const std::string& name : all ? profile_names() : std::vector{command.profile}) {
    command.profile = name;
    measure_scaling(configuration(command), command, *ranks);
  }
  ranks->close();
}

/// Started with others, or asked to predict for some.
bool concerns_ranks(const Command& command) {
  if (!command.scaling.ranks.empty()) return true;
  std::string rendezvous = "auto";
  for (const auto& [key, text] : command.keys)
    if (key == "train.rendezvous") rendezvous = text;
  return find_place(rendezvous).size > 1;
}

void print_progress(int64_t done, int64_t all) {
  fmt::print(stderr, "\rstep {} of {}{}", done, all, done == all ? "\r\033[K" : "");
  std::fflush(stderr);
}

int run_command(int argc, char** argv) {
  CLI::App app("Times a training step on random tokens beside the machine's own matrix product", "moeut-bench");
  Command command;
  command.declare(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    throw ConfigError(fmt::format("{}; moeut-bench --help lists the arguments", error.what()));
  }
  if (concerns_ranks(command)) {
    require<ConfigError>(command.kernels.empty() && !command.loader && !command.dry_run,
                         "--kernel, --loader and --dry-run are for one process: leave out --ranks and mpirun");
    measure_all_scaling(command);
    return 0;
  }
  const RunConfig config = configuration(command);
  set_cpu_threads(config.train.threads);
  const bool watched = ::isatty(STDERR_FILENO) != 0;
  if (!command.kernels.empty()) {
    measure_kernels(config, command, watched);
    return 0;
  }
  if (command.loader) {
    measure_loader(config, command);
    return 0;
  }
  BenchmarkOptions options = options_of(config, command, find_device(config.device));
  options.cuda_graph = uses_graph(config.train.cuda_graph, options.modules.device);
  const BenchmarkSubject subject = subject_of(config, command);
  if (command.dry_run) {
    const MemoryPlan plan = plan_memory(options.model, options.modules, options.optimizer, options.size);
    fmt::print("{}", command.json ? prediction_json(subject, options, plan).dump(2) + "\n"
                                  : prediction_text(subject, options, plan));
    return 0;
  }
  const Benchmark result = run_benchmark(options, [&](int64_t done) {
    if (watched) print_progress(done, options.warmup + options.steps);
  });
  fmt::print("{}", command.json ? benchmark_json(subject, options, result).dump(2) + "\n"
                                : benchmark_text(subject, options, result));
  return 0;
}

}  // namespace
}  // namespace moeut

int main(int argc, char** argv) {
  moeut::start_with_patient_threads(argv);
  const auto fail = [](const char* message, int status) {
    fmt::print(stderr, "moeut-bench: {}\n", message);
    return status;
  };
  try {
    const int status = moeut::run_command(argc, argv);
    moeut::require<moeut::IoError>(std::fflush(stdout) == 0, "cannot write to standard output");
    return status;
  } catch (const moeut::OtherRankFailed& failure) {
    return failure.refused ? 2 : 1;
  } catch (const moeut::ConfigError& error) {
    return fail(error.what(), 2);
  } catch (const moeut::OutOfMemory&) {
    return fail("out of memory on the device; lower --batch or --seq, or give --recompute", 1);
  } catch (const std::bad_alloc&) {
    return fail("out of memory; lower --batch or --seq, or give --recompute", 1);
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
}
