#include "trainer/parity_report.h"

#include <fmt/format.h>

#include <algorithm>

namespace moeut {
namespace {

/// Two digits say all that an error can.
std::string show(double error) {
  return fmt::format("{:.1e}", error);
}

/// An ideal set of kernels of the precision measures two thirds of what reference routing is allowed; with own routing
/// the limits are the worst of the official code, whose routers choose otherwise now and then.   [moeut.md, last table]
ParityLimits low_precision(double outputs, double gradient_median, RoutingSource routing) {
  if (routing == RoutingSource::own) return {.outputs = 6e-2, .gradient_median = 1.1e-1};
  return {.outputs = outputs, .gradient_median = gradient_median};
}

}  // namespace

ParityLimits parity_limits(Precision precision, RoutingSource routing) {
  switch (precision) {
    case Precision::fp64:
      // The files hold float32, whose rounding is 6e-8 of a value at the most.
      return {.outputs = 3e-7,
              .losses = 3e-7,
              .gradient_worst = 3e-7,
              .ce_loss_begin = 1e-7,
              .ce_loss = 1e-7,
              .final_parameters = 3e-7};
    case Precision::fp32:
      // The official float32 code measures 1.7e-7 and 7e-7; other orders of summation get a factor. Late in a
      // trajectory one expert that rounding chooses otherwise moves the loss by 1e-3, so only its end has a limit.
      return {.outputs = 2e-6, .losses = 2e-6, .gradient_worst = 2e-5, .ce_loss_begin = 2e-6};
    case Precision::bf16:
      return low_precision(6e-3, 2e-2, routing);
    case Precision::tf32:  // as many significant bits as fp16
    case Precision::fp16:
      return low_precision(8e-4, 6e-3, routing);
  }
  return {};
}

std::vector<Figure> figures_of(const GoldenCase& golden, const CaseErrors& errors, const ParityLimits& limits) {
  const bool lm = golden.kind == GoldenCase::Kind::lm;
  std::vector<Figure> figures = {{"outputs", errors.outputs, limits.outputs, ""},
                                 {"reg_loss", errors.reg_loss, limits.losses, ""},
                                 {"ce_loss", errors.ce_loss, lm ? limits.losses : kNoLimit, ""}};
  if (errors.gradients.empty()) return figures;
  const NamedError worst = worst_of(errors.gradients);
  figures.push_back({"grad_median", median_of(errors.gradients), limits.gradient_median, ""});
  figures.push_back({"grad_worst", worst.error, limits.gradient_worst, worst.name});
  return figures;
}

std::vector<Figure> figures_of(const TrajectoryErrors& errors, const ParityLimits& limits) {
  const auto means = fmt::format("{:.6f} against {:.6f}", errors.end_mean, errors.reference_end_mean);
  const NamedError worst = worst_of(errors.parameters);
  return {{"ce_loss_first20", errors.ce_loss_begin, limits.ce_loss_begin, ""},
          {"ce_loss_all", errors.ce_loss, limits.ce_loss, fmt::format("{} steps", errors.steps)},
          {"mean_last20", errors.end_error(), limits.end_mean, means},
          {"reg_loss", errors.reg_loss, kNoLimit, ""},
          {"grad_norm", errors.grad_norm, kNoLimit, ""},
          {"lr", errors.lr, limits.learning_rate, ""},
          {"final_worst", worst.error, limits.final_parameters, worst.name}};
}

std::string describe_limits(const ParityLimits& limits, std::string_view precision, std::string_view routing) {
  const auto list = [](const std::vector<Figure>& figures) {
    std::vector<std::string> texts;
    for (const Figure& f : figures) {
      if (f.limit != kNoLimit) texts.push_back(fmt::format("{} {:g}", f.label, f.limit));
    }
    return fmt::format("{}", fmt::join(texts, ", "));
  };
  return fmt::format("limits of {}, {} routing: {}; trajectory: {}", precision, routing,
                     list(figures_of(GoldenCase(), {.gradients = {{"", 0}}}, limits)), list(figures_of({}, limits)));
}

bool all_within(const std::vector<Figure>& figures) {
  return std::ranges::all_of(figures, &Figure::within);
}

std::string report_line(std::string_view path, std::string_view kind, const std::vector<Figure>& figures) {
  std::string line = fmt::format("{} {}", path, kind);
  std::vector<std::string> passed;
  for (const Figure& f : figures) {
    line += fmt::format("  {} {}", f.label, show(f.error));
    if (!f.note.empty()) line += fmt::format(" ({})", f.note);
    if (!f.within()) passed.push_back(fmt::format("{} {} > {:g}", f.label, show(f.error), f.limit));
  }
  return line + (passed.empty() ? "  PASS" : fmt::format("  FAIL: {}", fmt::join(passed, ", ")));
}

}  // namespace moeut
