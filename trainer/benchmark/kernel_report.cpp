#include "trainer/benchmark/kernel_report.h"

#include <fmt/format.h>

namespace moeut {
namespace {

double mib(size_t bytes) {
  return static_cast<double>(bytes) / (1 << 20);
}

/// Times in ms.
std::string spread_text(const Spread& s) {
  return fmt::format("{:.3f} ({:.3f} to {:.3f})", s.median * 1e3, s.min * 1e3, s.max * 1e3);
}

std::string head(const BenchmarkSubject& subject, const KernelBenchmarkOptions& o, const KernelBenchmark& b) {
  const ModelConfig& m = o.shape.model;
  std::string text = fmt::format(
      "shapes    {}: d_model {}, {} experts of {}, {} a token; {} heads of {}; vocabulary {}\n", subject.model,
      m.d_model, m.ff_n_experts, m.ff_expert_size, m.ff_k, m.n_heads, m.head_dim(), m.n_tokens);
  text += fmt::format("          {} sequence{} of {} tokens, {}, on {}\n", o.shape.batch, o.shape.batch == 1 ? "" : "s",
                      o.shape.time, subject.precision, o.device.str());
  text += fmt::format("machine   {}, {:.0f} MiB of last-level cache, {} host thread{}\n", b.machine.name,
                      mib(b.machine.cache_bytes), b.threads, b.threads == 1 ? "" : "s");
  text += fmt::format("copy      {:.4g} TB/s read and written: {:.0f} MiB, {} ms\n", b.copy.byte_rate() / 1e12,
                      mib(static_cast<size_t>(o.shape.copy_bytes)), spread_text(b.copy.seconds));
  text += fmt::format("gemm      {:.4g} TFLOP/s: {} {}³, {} ms\n", b.gemm.flop_rate() / 1e12, name_of(o.shape.compute),
                      o.shape.gemm_size, spread_text(b.gemm.seconds));
  text += fmt::format(
      "time      of one run: median of {} (min to max) after {} for warm-up. Operands rotate, so that they are cold:\n"
      "          at least {:.0f} MiB of others between two uses of the same, as far as {} runs allow\n",
      o.runs, o.warmup, mib(b.cold_bytes), o.warmup + o.runs);
  text += "roofline  max(bytes / copy, FLOPs / gemm); bytes: operands read once, results written once\n\n";
  return text;
}

std::string rate_text(double rate) {
  return rate > 0 ? fmt::format("{:.3g}", rate / 1e12) : "-";
}

Json timing_json(const KernelBenchmark& b, const KernelTiming& k) {
  return Json::Object{
      {"name", k.name},
      {"ms",
       Json::Object{{"median", k.seconds.median * 1e3}, {"min", k.seconds.min * 1e3}, {"max", k.seconds.max * 1e3}}},
      {"flop", k.cost.flops},
      {"bytes", k.cost.bytes},
      {"flop_per_s", k.flop_rate()},
      {"bytes_per_s", k.byte_rate()},
      {"bound", b.memory_bound(k) ? "memory" : "compute"},
      {"roofline_ms", b.floor_seconds(k) * 1e3},
      {"roofline_share", b.share(k)},
      {"operand_sets", k.sets},
      {"operand_set_bytes", k.set_bytes}};
}

}  // namespace

std::string kernel_text(const BenchmarkSubject& subject, const KernelBenchmarkOptions& o, const KernelBenchmark& b) {
  std::string text = head(subject, o, b);
  text += fmt::format("{:<19}{:>30}{:>10}{:>10}{:>11}{:>11}{:>18}{:>9}{:>15}\n", "kernel", "ms (min to max)", "GFLOP",
                      "MB", "TFLOP/s", "TB/s", "roofline ms", "share", "sets");
  for (const KernelTiming& k : b.kernels) {
    text += fmt::format("{:<19}{:>30}{:>10.4g}{:>10.4g}{:>11}{:>11}{:>18}{:>9}{:>15}\n", k.name, spread_text(k.seconds),
                        k.cost.flops / 1e9, k.cost.bytes / 1e6, rate_text(k.flop_rate()), rate_text(k.byte_rate()),
                        fmt::format("{} {:.3f}", b.memory_bound(k) ? "memory" : "compute", b.floor_seconds(k) * 1e3),
                        fmt::format("{:.1f} %", 100 * b.share(k)),
                        fmt::format("{} x {:.3g} MiB", k.sets, mib(k.set_bytes)));
  }
  return text;
}

Json kernel_json(const BenchmarkSubject& subject, const KernelBenchmarkOptions& o, const KernelBenchmark& b) {
  Json::Array kernels;
  for (const KernelTiming& k : b.kernels) kernels.push_back(timing_json(b, k));
  return Json::Object{{"model", subject.model},
                      {"device", o.device.str()},
                      {"precision", subject.precision},
                      {"batch_size", o.shape.batch},
                      {"seq_len", o.shape.time},
                      {"machine", b.machine.name},
                      {"cache_bytes", b.machine.cache_bytes},
                      {"threads", b.threads},
                      {"runs", o.runs},
                      {"warmup", o.warmup},
                      {"cold_bytes", b.cold_bytes},
                      {"gemm_size", o.shape.gemm_size},
                      {"gemm_dtype", name_of(o.shape.compute)},
                      {"copy", timing_json(b, b.copy)},
                      {"gemm", timing_json(b, b.gemm)},
                      {"kernels", std::move(kernels)}};
}

}  // namespace moeut
