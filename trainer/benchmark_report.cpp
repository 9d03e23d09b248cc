#include "trainer/benchmark_report.h"

#include <fmt/format.h>

#include "core/machine.h"

namespace moeut {
namespace {

constexpr const char* kData = "random tokens in a temporary shard, through the loader with its prefetch";

constexpr std::pair<Phase, const char*> kNamedPhases[] = {
    {Phase::data, "data"},           {Phase::forward, "forward"}, {Phase::backward, "backward"},
    {Phase::optimizer, "optimizer"}, {Phase::graph, "graph"},     {Phase::other, "other"}};

std::string mib(size_t bytes) {
  return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20));
}

/// "12.3 (12.1 to 13.0)", scaled.
std::string spread_text(const Spread& s, double scale) {
  return fmt::format("{:.1f} ({:.1f} to {:.1f})", s.median * scale, s.min * scale, s.max * scale);
}

Json spread_json(const Spread& s, double scale) {
  return Json::Object{{"median", s.median * scale}, {"min", s.min * scale}, {"max", s.max * scale}};
}

/// Of the phases' medians together, so that the shares add up to 1.
double share(const Benchmark& result, Phase phase) {
  double all = 0;
  for (const Spread& s : result.phases) all += s.median;
  return result.phases[static_cast<size_t>(phase)].median / all;
}

std::string model_lines(const BenchmarkSubject& subject, const BenchmarkOptions& o) {
  const ModelConfig& m = o.model;
  std::string text = fmt::format(
      "model     {}: {:.1f} M parameters, d_model {}, {} layers in groups of {}, vocabulary {}\n", subject.model,
      static_cast<double>(m.parameter_count()) / 1e6, m.d_model, m.n_layers, m.group_size, m.n_tokens);
  text += fmt::format("step      {} sequence{} of {} tokens, {}, on {}\n", o.size.batch_size,
                      o.size.batch_size == 1 ? "" : "s", o.size.seq_len, subject.precision, o.modules.device.str());
  if (o.size.micro_batch_size > 0 && o.size.micro_batch_size < o.size.batch_size)
    text += fmt::format("          in micro-batches of {}\n", o.size.micro_batch_size);
  if (o.cuda_graph) text += "          as a CUDA graph (--cuda-graph off tells its phases apart)\n";
  if (o.size.recompute) text += "          layers run again in the backward pass (train.recompute)\n";
  return text;
}

std::string plan_line(const MemoryPlan& plan) {
  return fmt::format("{} predicted: parameters {}, gradients {}, optimizer {}, activations {}", mib(plan.peak),
                     mib(plan.parameters), mib(plan.gradients), mib(plan.optimizer), mib(plan.activations));
}

std::string phase_lines(const Benchmark& result) {
  std::string text;
  for (const auto& [phase, name] : kNamedPhases) {
    if (result.phases[static_cast<size_t>(phase)].max == 0) continue;  // there is no such phase in these steps
    text += fmt::format("  {:<9} {:5.1f} %   {} ms\n", name, 100 * share(result, phase),
                        spread_text(result.phases[static_cast<size_t>(phase)], 1e3));
  }
  return text;
}

Json::Object subject_json(const BenchmarkSubject& subject, const BenchmarkOptions& o) {
  return {{"model", subject.model},
          {"parameters", o.model.parameter_count()},
          {"n_tokens", o.model.n_tokens},
          {"device", o.modules.device.str()},
          {"precision", subject.precision},
          {"batch_size", o.size.batch_size},
          {"micro_batch_size", o.size.micro_batch_size},
          {"seq_len", o.size.seq_len},
          {"recompute", o.size.recompute},
          {"cuda_graph", o.cuda_graph}};
}

Json::Object plan_json(const MemoryPlan& plan) {
  return {{"predicted_peak_bytes", plan.peak},
          {"predicted_parameters_bytes", plan.parameters},
          {"predicted_gradients_bytes", plan.gradients},
          {"predicted_optimizer_bytes", plan.optimizer},
          {"predicted_activations_bytes", plan.activations}};
}

Json phases_json(const Benchmark& result) {
  Json::Object phases;
  for (const auto& [phase, name] : kNamedPhases) {
    phases.emplace_back(name, Json::Object{{"ms", spread_json(result.phases[static_cast<size_t>(phase)], 1e3)},
                                           {"share", share(result, phase)}});
  }
  return phases;
}

void append(Json::Object& to, Json::Object more) {
  for (auto& member : more) to.push_back(std::move(member));
}

}  // namespace

std::string prediction_text(const BenchmarkSubject& subject, const BenchmarkOptions& options, const MemoryPlan& plan) {
  return model_lines(subject, options) + fmt::format("memory    {}\n", plan_line(plan));
}

Json prediction_json(const BenchmarkSubject& subject, const BenchmarkOptions& options, const MemoryPlan& plan) {
  Json::Object all = subject_json(subject, options);
  all.emplace_back("memory", plan_json(plan));
  return all;
}

std::string benchmark_text(const BenchmarkSubject& subject, const BenchmarkOptions& o, const Benchmark& b) {
  std::string text = model_lines(subject, o);
  text += fmt::format("machine   {}, {} thread{}\n", machine_of(o.modules.device).name, b.threads,
                      b.threads == 1 ? "" : "s");
  text += fmt::format("data      {}\n", kData);
  text += fmt::format("loss      {:.4f} in the first step, {:.4f} in the last\n", b.first_loss, b.last_loss);
  text += fmt::format("time      {} ms a step: median of {} (min to max), after {} for warm-up\n",
                      spread_text(b.step_seconds, 1e3), o.steps, o.warmup);
  text += phase_lines(b);
  text += fmt::format("speed     {:.1f} tokens/s, {:.2f} GFLOP/s ({:.1f} MFLOP a token)\n", b.tokens_per_second(),
                      b.flops() / 1e9, b.flops_per_token / 1e6);
  text += fmt::format("gemm      {} GFLOP/s: {} {}³, median of {} (min to max) measured between the steps\n",
                      spread_text(b.gemm_flops, 1e-9), name_of(o.modules.compute_type()), gemm_size(o.modules.device),
                      o.steps);
  text += fmt::format("share     {:.1f} % of the GEMM rate\n", 100 * b.gemm_share());
  text += fmt::format("memory    {} at its peak; {}\n", mib(b.peak), plan_line(b.predicted));
  text += fmt::format(
      "          measured / predicted {:.3f}; arena {} from the system; process {} resident at its peak,\n",
      static_cast<double>(b.peak) / static_cast<double>(b.predicted.peak), mib(b.reserved), mib(b.process_peak));
  const int64_t size = gemm_size(o.modules.device);
  text += fmt::format("          {} beside the step are the GEMM's operands\n",
                      mib(static_cast<size_t>(3 * size * size) * size_of(o.modules.compute_type())));
  return text;
}

Json benchmark_json(const BenchmarkSubject& subject, const BenchmarkOptions& o, const Benchmark& b) {
  Json::Object all = subject_json(subject, o);
  append(all, {{"machine", machine_of(o.modules.device).name},
               {"threads", b.threads},
               {"data", kData},
               {"steps", o.steps},
               {"warmup", o.warmup},
               {"first_loss", b.first_loss},
               {"last_loss", b.last_loss},
               {"step_ms", spread_json(b.step_seconds, 1e3)},
               {"phases", phases_json(b)},
               {"tokens_per_s", b.tokens_per_second()},
               {"flop_per_token", b.flops_per_token},
               {"flop_per_s", b.flops()}});
  Json::Object gemm = {{"size", gemm_size(o.modules.device)},
                       {"dtype", name_of(o.modules.compute_type())},
                       {"flop_per_s", spread_json(b.gemm_flops, 1)}};
  all.emplace_back("gemm", std::move(gemm));
  all.emplace_back("gemm_share", b.gemm_share());
  Json::Object memory = {
      {"peak_bytes", b.peak}, {"arena_reserved_bytes", b.reserved}, {"process_peak_bytes", b.process_peak}};
  append(memory, plan_json(b.predicted));
  all.emplace_back("memory", std::move(memory));
  return all;
}

}  // namespace moeut
