#include <fmt/format.h>

#include "core/machine.h"
#include "trainer/benchmark/scaling_benchmark.h"

namespace moeut {
namespace {

bool on_cpu(const ScalingOptions& options) {
  return options.step.modules.device.is_cpu();
}

std::string plural(int64_t n, const char* what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

std::string link_text(const KnownLink& known) {
  return fmt::format("{:.4g} GB/s, {:.3g} us ({})", known.link.bytes_per_second / 1e9, known.link.latency_seconds * 1e6,
                     known.source);
}

std::string cost_line(const ScalingOptions& options, const ScalingBenchmark& r) {
  std::string text = fmt::format(
      "one rank  forward {:.2f}, backward {:.2f} ms a micro-batch, optimizer {:.2f} ms a step: ", r.cost.forward * 1e3,
      r.cost.backward * 1e3, r.cost.optimizer * 1e3);
  if (r.cost_given) return text + "given (--compute-ms)\n";
  return text + fmt::format("medians of {}, {}, {} of {} cores\n", plural(r.steps, "step"),
                            machine_of(options.step.modules.device).name, plural(r.threads, "thread"), r.cores);
}

std::string volume_line(const ScalingOptions& o, const ScalingBenchmark& r) {
  std::string text =
      fmt::format("travels   {:.2f} M gradients in {}", r.volume.elements / 1e6, plural(r.volume.tensors, "tensor"));
  if (o.sharded)
    text += fmt::format(", {:.1f} MB of weights back (train.shard_optimizer)", r.volume.operand_bytes / 1e6);
  if (o.precision == ReducePrecision::bf16) text += ", in bf16";
  if (on_cpu(o))
    return text + fmt::format("; an element takes {:.2f} ns in the sum of all ranks, {:.2f} in that of a rank's own\n",
                              r.sum_seconds * 1e9, r.add_seconds * 1e9);
  return text + fmt::format("; final in the last {:.1f} % of the backward pass\n", 100 * r.volume.final_share);
}

constexpr const char* kColumns =
    "   ranks  sequences    ms a step   compute  exchange  optimizer      hidden ms      tokens/s  efficiency\n";

std::string row_text(const ScalingRow& row) {
  const PredictedStep& p = row.predicted;
  const double all = p.seconds() / 100;
  std::string text = fmt::format("{:8} {:10} {:12.2f} {:7.1f} % {:7.1f} %  {:7.1f} % {:14.2f} {:13.1f}  {:8.1f} %\n",
                                 p.ranks, row.sequences, p.seconds() * 1e3, p.compute / all, p.exposed / all,
                                 p.optimizer / all, p.hidden * 1e3, row.tokens_per_second, 100 * row.efficiency);
  if (!row.measured) return text;
  const RankTiming& m = *row.measured;
  const double own = m.step.median / 100;
  const bool phases = m.forward > 0;
  text += fmt::format("measured            {:12.2f} ", m.step.median * 1e3);
  text += phases ? fmt::format("{:7.1f} % {:7.1f} %  {:7.1f} % ", (m.forward + m.backward) / own,
                               (m.waiting + m.exchange) / own, m.optimizer / own)
                 : std::string(31, ' ');
  text += fmt::format("{:>14} {:13.1f}  prediction {:+.1f} %\n", "", row.measured_tokens_per_second,
                      100 * (row.tokens_per_second / row.measured_tokens_per_second - 1));
  if (phases)
    text += fmt::format(
        "  of it  forward {:.1f}, backward {:.1f}, waiting {:.1f}, exchange {:.1f}, optimizer {:.1f} ms; "
        "steps {:.1f} to {:.1f} ms\n",
        m.forward * 1e3, m.backward * 1e3, m.waiting * 1e3, m.exchange * 1e3, m.optimizer * 1e3, m.step.min * 1e3,
        m.step.max * 1e3);
  return text;
}

double alone_tokens_per_second(const ScalingOptions& options, const RankTiming& alone) {
  return static_cast<double>(options.step.size.batch_size * options.step.size.seq_len) / alone.step.median;
}

/// Who computes: "2 ranks of 1 thread", or "2 GPUs".
std::string workers(const ScalingOptions& options, const ScalingBenchmark& r, int64_t n) {
  return on_cpu(options) ? fmt::format("{} of {}", plural(n, "rank"), plural(r.threads, "thread")) : plural(n, "GPU");
}

/// The one line of weak scaling that was measured; empty if it was not.
std::string gain_line(const ScalingOptions& options, const ScalingBenchmark& r) {
  for (const ScalingRow& row : r.weak) {
    if (!row.measured || !r.alone) continue;
    const int64_t n = row.predicted.ranks;
    const double one = alone_tokens_per_second(options, *r.alone), all = row.measured_tokens_per_second;
    const bool shared = on_cpu(options) && n * r.threads > r.cores;
    return fmt::format("gain      {}: {:.1f} tokens/s; {}: {:.1f} tokens/s, {:.2f} times{}\n", workers(options, r, 1),
                       one, workers(options, r, n), all, all / one,
                       shared ? fmt::format(", on {} cores", r.cores) : "");
  }
  return "";
}

Json row_json(const ScalingRow& row) {
  const PredictedStep& p = row.predicted;
  Json::Object all = {{"ranks", p.ranks},
                      {"sequences", row.sequences},
                      {"step_ms", p.seconds() * 1e3},
                      {"compute_ms", p.compute * 1e3},
                      {"exchange_ms", p.exposed * 1e3},
                      {"optimizer_ms", p.optimizer * 1e3},
                      {"hidden_ms", p.hidden * 1e3},
                      {"tokens_per_s", row.tokens_per_second},
                      {"efficiency", row.efficiency}};
  if (!row.measured) return all;
  const RankTiming& m = *row.measured;
  all.emplace_back("measured", Json::Object{{"step_ms", m.step.median * 1e3},
                                            {"step_ms_min", m.step.min * 1e3},
                                            {"step_ms_max", m.step.max * 1e3},
                                            {"forward_ms", m.forward * 1e3},
                                            {"backward_ms", m.backward * 1e3},
                                            {"waiting_ms", m.waiting * 1e3},
                                            {"exchange_ms", m.exchange * 1e3},
                                            {"optimizer_ms", m.optimizer * 1e3},
                                            {"tokens_per_s", row.measured_tokens_per_second}});
  return all;
}

Json rows_json(const std::vector<ScalingRow>& rows) {
  Json::Array all;
  for (const ScalingRow& row : rows) all.push_back(row_json(row));
  return all;
}

Json link_json(const KnownLink& known) {
  return Json::Object{{"bytes_per_s", known.link.bytes_per_second},
                      {"latency_us", known.link.latency_seconds * 1e6},
                      {"source", known.source}};
}

}  // namespace

std::string scaling_text(const BenchmarkSubject& subject, const ScalingOptions& o, const ScalingBenchmark& r) {
  const StepSize& size = o.step.size;
  std::string text =
      fmt::format("model     {}, {}, on {}\n", subject.model, subject.precision, o.step.modules.device.str());
  text += cost_line(o, r);
  text += volume_line(o, r);
  text += fmt::format("links     {} ranks a host: {}\n          between hosts: {}\n", r.cluster.ranks_per_host,
                      link_text(r.within), link_text(r.between));
  text += fmt::format("weak scaling, predicted: {} of {} tokens a rank and step\n{}",
                      plural(size.batch_size, "sequence"), size.seq_len, kColumns);
  for (const ScalingRow& row : r.weak) text += row_text(row);
  if (!r.strong.empty()) {
    text += fmt::format("strong scaling, predicted: {} of {} tokens a step, whatever the ranks\n{}",
                        plural(r.strong.front().sequences, "sequence"), size.seq_len, kColumns);
    for (const ScalingRow& row : r.strong) text += row_text(row);
  }
  return text + gain_line(o, r);
}

Json scaling_json(const BenchmarkSubject& subject, const ScalingOptions& o, const ScalingBenchmark& r) {
  Json::Object all = {{"model", subject.model},
                      {"precision", subject.precision},
                      {"device", o.step.modules.device.str()},
                      {"machine", r.cost_given ? "given" : machine_of(o.step.modules.device).name},
                      {"threads", r.threads},
                      {"cores", r.cores},
                      {"batch_size", o.step.size.batch_size},
                      {"seq_len", o.step.size.seq_len},
                      {"forward_ms", r.cost.forward * 1e3},
                      {"backward_ms", r.cost.backward * 1e3},
                      {"optimizer_ms", r.cost.optimizer * 1e3},
                      {"gradients", r.volume.elements},
                      {"ranks_per_host", r.cluster.ranks_per_host},
                      {"within_host", link_json(r.within)},
                      {"between_hosts", link_json(r.between)},
                      {"weak", rows_json(r.weak)},
                      {"strong", rows_json(r.strong)}};
  if (r.alone) all.emplace_back("alone_tokens_per_s", alone_tokens_per_second(o, *r.alone));
  return all;
}

}  // namespace moeut
