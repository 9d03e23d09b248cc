// This implementation against the golden files (float64, the official code's semantics): outputs, losses, every
// gradient, and 200 steps of training. The limits and their reasons are parity_limits().
#include <filesystem>
#include <limits>

#include "layers/moeut_lm.h"
#include "tests/testing.h"
#include "trainer/parity_report.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr const char* kCases[] = {
    "lm_basic",     "lm_dense_attention",    "lm_eval",     "lm_group3_att_k1", "lm_padding_mask",
    "lm_unaligned", "lm_window_and_padding", "body_no_mask"};

GoldenCase case_named(const std::string& name) {
  const auto path = std::filesystem::path(MOEUT_SOURCE_DIR) / "tests/golden" / (name + ".h5");
  return std::get<GoldenCase>(read_golden(path));
}

const GoldenTrajectory& train_bytes() {
  static const auto file = read_golden(std::filesystem::path(MOEUT_SOURCE_DIR) / "tests/golden/train_bytes.h5");
  return std::get<GoldenTrajectory>(file);
}

/// The trajectory's first steps, as a run that stops there: the schedule is still the whole run's.
GoldenTrajectory first_steps(GoldenTrajectory t, int64_t steps) {
  t.tokens = t.tokens.slice(0, steps);
  for (auto* column : {&t.ce_loss, &t.reg_loss, &t.grad_norm, &t.lr}) column->resize(static_cast<size_t>(steps));
  t.final_parameters.clear();
  return t;
}

void check_case(const std::string& name, const GoldenCase& golden, const ParityOptions& options) {
  const ParityLimits limits = parity_limits(options.precision, options.routing);
  const auto figures = figures_of(golden, measure(golden, options), limits);
  CHECK_MESSAGE(all_within(figures), report_line(name, "", figures));
}

void check_trajectory(const GoldenTrajectory& golden, const ParityOptions& options) {
  const auto figures = figures_of(measure(golden, options), parity_limits(options.precision, options.routing));
  CHECK_MESSAGE(all_within(figures), report_line("train_bytes", "", figures));
}

/// A case of shapes that no file has: its expected values are this implementation's own in float64, rounded as a file
/// rounds them.
GoldenCase own_case(const ModelConfig& config, int64_t b, int64_t t) {
  GoldenCase c{.config = config, .train = true, .mask = {.causal = true}};
  c.tokens = random_ids({b, t}, config.n_tokens, 1);
  c.targets = random_ids({b, t}, config.n_tokens, 2);
  MoeutLm model(config, 7, {.dtype = DType::f64});
  const auto as_stored = [](const Tensor& x) { return x.to(Device::cpu(), DType::f32).to(Device::cpu(), DType::f64); };
  model.visit_parameters([&](Parameter& p) {
    c.parameters[p.name] = as_stored(p.value);
    c.gradients[p.name] = Tensor::zeros(p.value.shape(), DType::f64);
  });
  c.outputs = Tensor::zeros({b, t, config.n_tokens}, DType::f64);
  return c;
}

}  // namespace

TEST_CASE("golden cases in float64") {
  for (const char* name : kCases) check_case(name, case_named(name), {.precision = Precision::fp64});
}

TEST_CASE("golden cases in float32") {
  for (const char* name : kCases) check_case(name, case_named(name), {.precision = Precision::fp32});
}

TEST_CASE("golden cases in float32 with the experts of the float64 run") {
  for (const char* name : kCases) {
    check_case(name, case_named(name), {.precision = Precision::fp32, .routing = RoutingSource::reference});
  }
}
