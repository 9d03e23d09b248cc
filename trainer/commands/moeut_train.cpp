// moeut-train: trains the language model that a configuration describes.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdio>
#include <new>
#include <thread>

#include "core/check.h"
#include "core/memory.h"
#include "trainer/command_line.h"
#include "trainer/config_print.h"
#include "trainer/config_schema.h"
#include "trainer/memory_advice.h"
#include "trainer/memory_plan.h"
#include "trainer/threads.h"
#include "trainer/training_loop.h"

namespace moeut {
namespace {

enum ExitStatus { kDone = 0, kFailed = 1, kRefused = 2, kStopped = 3 };

std::string mib(size_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

/// The data are needed only where the vocabulary is theirs.
ModelConfig planned_model(const RunConfig& config) {
  const bool given = config.model.n_tokens.value_or(0) > 0;
  return given ? model_config(config.model, 0) : open_inputs(config).model;
}

/// For --dry-run.
void print_plan(const RunConfig& config) {
  const ModelConfig model = planned_model(config);
  const TrainSection& train = config.train;
  const ModuleOptions modules = module_options(train.precision, find_device(config.device));
  MemoryPlan plan = plan_memory(model, modules, config.optimizer,
                                {.batch_size = train.batch_size,
                                 .micro_batch_size = train.micro_batch_size,
                                 .seq_len = train.seq_len,
                                 .recompute = train.recompute});
  const auto ranks = static_cast<size_t>(find_place(train.rendezvous).size);
  if (train.shard_optimizer) {
    plan.peak -= plan.optimizer - plan.optimizer / ranks;
    plan.optimizer /= ranks;
  }
  fmt::print("model          {} parameters (d_model {}, {} layers in groups of {}, vocabulary {})\n",
             model.parameter_count(), model.d_model, model.n_layers, model.group_size, model.n_tokens);
  fmt::print("run            {} steps of {} sequences of {} tokens, in '{}'\n", train.steps, train.batch_size,
             train.seq_len, config.run.dir.string());
  fmt::print("memory         {} at the most (predicted){}, of which\n", mib(plan.peak),
             ranks > 1 ? fmt::format(" on each of {} ranks", ranks) : "");
  fmt::print("  parameters   {}\n  gradients    {}\n  optimizer    {}\n  activations  {}\n", mib(plan.parameters),
             mib(plan.gradients), mib(plan.optimizer), mib(plan.activations));
  const size_t checkpoint =
      static_cast<size_t>(model.parameter_count()) * size_of(modules.dtype) * (config.optimizer.ema_decay > 0 ? 4 : 3);
  fmt::print("checkpoint     {}; {} are kept{}\n", mib(checkpoint), config.checkpoint.keep_last,
             config.checkpoint.async ? "; as much of the host's memory while one is written (checkpoint.async)" : "");
}

void describe(const Run& run) {
  spdlog::info("model: {} parameters; data: {} sequences of {} tokens an epoch; device {}{}",
               run.inputs.model.parameter_count(), run.training_data->samples_per_epoch(), run.config.train.seq_len,
               run.model->lm_head.weight.value.device().str(),
               run.ranks->alone() ? "" : fmt::format(" on each of {} ranks", run.ranks->size()));
}

int train(const LoadedConfig& loaded, const CommandLine& line, StopRequest& request, Log& log,
          const std::shared_ptr<Terminal>& terminal, const std::shared_ptr<Ranks>& ranks) {
  Run run(loaded, line.resume, line.force, ranks);
  const RunConfig& config = run.config;
  if (run.finished()) {
    spdlog::info("already done: step {} of {} in '{}'", run.state.step, config.train.steps, config.run.dir.string());
    return kDone;
  }
  run.open_folder(log);
  describe(run);
  request.watch_file(config.run.dir / "stop");
  Progress progress(terminal,
                    {.first_step = run.state.step, .steps = config.train.steps, .line_every = config.log.every});
  TrainingLoop loop(run, request, log, progress);
  if (loop.run() == TrainingLoop::End::finished) {
    spdlog::info("done: {} steps, {} tokens", run.state.step, run.state.tokens);
    return kDone;
  }
  spdlog::info("stopped by {} after step {} of {}; the same command goes on from there", loop.stop_reason(),
               run.state.step, config.train.steps);
  return kStopped;
}

/// What there was to have when memory ran out, and how the step can be made to fit into it.
std::string advice_for(const RunConfig& config) {
  const Device device = find_device(config.device);
  return memory_advice(config, planned_model(config), module_options(config.train.precision, device),
                       attainable_memory(device));
}

/// What is in the air: its message and the exit status it stands for.
std::pair<std::string, int> current_failure() {
  try {
    throw;
  } catch (const ConfigError& error) {
    return {error.what(), kRefused};
  } catch (const std::bad_alloc&) {
    return {"out of memory; lower train.micro_batch_size or set train.recompute", kFailed};
  } catch (const std::exception& error) {
    return {error.what(), kFailed};
  }
}

/// What is in the air while a run was under way.
std::pair<std::string, int> failure_of(const RunConfig& config) {
  try {
    throw;
  } catch (const OutOfMemory& error) {
    return {fmt::format("{}. {}", error.what(), advice_for(config)), kFailed};
  } catch (const std::bad_alloc&) {
    return {"out of memory. " + advice_for(config), kFailed};
  } catch (...) {
    return current_failure();
  }
}

/// Where the run's own log is still open. Other ranks, which may wait for this one, end as well.
int report(Terminal& terminal, Ranks* ranks, const std::string& message, int status) {
  terminal.finish_bar();
  if (ranks != nullptr && !ranks->alone())
    ranks->watchdog().fail(message);  // does not return if another one is the cause
  if (ranks == nullptr || ranks->leads())
    spdlog::error(message);
  else
    fmt::print(stderr, "moeut-train: rank {}: {}\n", ranks->rank(), message);
  return status;
}

int run_command(int argc, char** argv) {
  // Never destroyed: a signal while the process ends must not make a killed run of a finished one.
  static StopRequest& request = *new StopRequest;  // first of all: a request at start-up is kept as well
  const CommandLine line = parse_command_line(argc, argv);
  if (line.help) return fmt::print("{}", train_help()), kDone;
  if (line.print_config_docs) return fmt::print("{}", config_markdown()), kDone;
  if (line.print_config_schema) return fmt::print("{}", config_schema()), kDone;
  LoadedConfig loaded = load_config(line.config, line.overrides);
  RunConfig& config = loaded.config;
  uses_graph(config.train.cuda_graph, find_device(config.device));
  // The vocabulary may be the data's; any other mistake in the model's arguments shows here.
  ModelConfig model = model_config(config.model, 1);
  if (line.print_config) {
    model.n_tokens = config.model.n_tokens.value_or(0);
    state_model(config.model, model);
    fmt::print("{}", print_config(loaded));
    return kDone;
  }
  const bool leads = find_place(config.train.rendezvous).rank == 0;
  const auto terminal = std::make_shared<Terminal>(leads ? stderr : std::fopen("/dev/null", "we"));
  Log log(terminal);
  for (const std::string& warning : loaded.warnings) spdlog::warn(warning);
  if (line.dry_run) return leads ? print_plan(config) : void(), kDone;
  request.set_max_time(config.train.max_time, "train.max_time");
  std::shared_ptr<Ranks> ranks;
  try {
    ranks = Ranks::gather(config);
    const int status = train(loaded, line, request, log, terminal, ranks);
    ranks->close();
    return status;
  } catch (const OtherRankFailed& failure) {
    return failure.refused ? kRefused : kFailed;
  } catch (...) {
    const auto [message, status] = failure_of(config);
    return report(*terminal, ranks.get(), message, status);
  }
}

}  // namespace
}  // namespace moeut

namespace moeut {
namespace {

int rank_by_environment() {
  try {
    return find_place("auto").rank;
  } catch (const std::exception&) {
    return 0;
  }
}

/// Before the ranks have met what is wrong is mostly wrong on all of them: rank 0 says it, and the launcher ends the
/// others. One that is still there has a reason of its own.
void say_why(const std::string& message) {
  const int rank = rank_by_environment();
  if (rank == 0) return fmt::print(stderr, "moeut-train: {}\n", message);
  for (int tenths = 0; tenths < 50; ++tenths) {
    if (stop_signalled()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  fmt::print(stderr, "moeut-train: rank {}: {}\n", rank, message);
}

}  // namespace
}  // namespace moeut

int main(int argc, char** argv) {
  moeut::start_with_patient_threads(argv, moeut::StopSignals::hold);
  try {
    const int status = moeut::run_command(argc, argv);
    moeut::require<moeut::IoError>(std::fflush(stdout) == 0, "cannot write to standard output");
    return status;
  } catch (...) {
    const auto [message, status] = moeut::current_failure();
    moeut::say_why(message);
    return status;
  }
}
