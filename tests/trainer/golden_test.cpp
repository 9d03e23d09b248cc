// This implementation against the golden files (float64, the official code's semantics): outputs, losses, every
// gradient, and training steps. The limits and their reasons are parity_limits().
#include <filesystem>
#include <fstream>
#include <limits>

#include "autograd/ops/cross_entropy.h"
#include "layers/moeut_lm.h"
#include "tests/scratch_folder.h"
#include "tests/testing.h"
#include "trainer/parity_report.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr const char* kCases[] = {
    "lm_basic",     "lm_dense_attention",    "lm_eval",     "lm_group3_att_k1", "lm_padding_mask",
    "lm_unaligned", "lm_window_and_padding", "body_no_mask"};

std::filesystem::path path_of(const std::string& name) {
  return std::filesystem::path(MOEUT_SOURCE_DIR) / "tests/golden" / (name + ".h5");
}

GoldenCase case_named(const std::string& name) {
  return std::get<GoldenCase>(read_golden(path_of(name)));
}

const GoldenTrajectory& train_bytes() {
  static const auto file = read_golden(path_of("train_bytes"));
  return std::get<GoldenTrajectory>(file);
}

std::vector<Figure> figures_for(const GoldenCase& golden, const ParityOptions& options) {
  return figures_of(golden, measure(golden, options), parity_limits(options.precision, options.routing));
}

void check_case(const std::string& name, const GoldenCase& golden, const ParityOptions& options) {
  const auto figures = figures_for(golden, options);
  CHECK_MESSAGE(all_within(figures), report_line(name, "", figures));
}

void check_trajectory(const ParityOptions& options) {
  const auto figures = figures_of(measure(train_bytes(), options), parity_limits(options.precision, options.routing));
  CHECK_MESSAGE(all_within(figures), report_line("train_bytes", "", figures));
}

/// As a file stores it.
Tensor stored(const Tensor& t) {
  return t.to(Device::cpu(), DType::f32).to(Device::cpu(), DType::f64);
}

/// A case of a shape that no file has; what it expects is this implementation's own result in float64.
GoldenCase own_case(const ModelConfig& config, int64_t b, int64_t t) {
  GoldenCase c;
  c.config = config;
  c.train = true;
  c.mask.causal = true;
  c.tokens = random_ids({b, t}, config.n_tokens, 1);
  c.targets = random_ids({b, t}, config.n_tokens, 2);
  MoeutLm model(config, 7, {.dtype = DType::f64});
  model.visit_parameters([&](Parameter& p) {
    p.value.copy_from(stored(p.value));
    c.parameters[p.name] = p.value;
  });
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 0, 0);
  const MoeutOutput out = model.forward(context, c.tokens);
  const auto ce = ops::cross_entropy(tape, out.outputs, c.targets, 1.0 / static_cast<double>(b * t));
  tape.backward({{ce.loss}, {out.reg_loss}});
  c.outputs = stored(out.outputs.value());
  c.ce_loss = ce.loss.value().item();
  c.reg_loss = out.reg_loss.value().item();
  model.visit_parameters([&](Parameter& p) { c.gradients[p.name] = stored(p.gradient); });
  return c;
}

/// A copy of a golden file in which every `from` is `to`, which has the same length.
std::filesystem::path edited(const ScratchFolder& folder, const std::string& name, const std::string& from,
                             const std::string& to) {
  REQUIRE(from.size() == to.size());
  std::ifstream in(path_of(name), std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  REQUIRE(bytes.find(from) != std::string::npos);
  for (size_t at = 0; (at = bytes.find(from, at)) != std::string::npos; at += to.size()) {
    bytes.replace(at, from.size(), to);
  }
  const auto path = folder.path() / (name + ".h5");
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

/// What reading the edited file says; it must name the file.
std::string refusal(const std::string& name, const std::string& from, const std::string& to) {
  const ScratchFolder folder;
  const auto path = edited(folder, name, from, to);
  try {
    read_golden(path);
  } catch (const IoError& error) {
    const std::string message = error.what();
    CHECK_MESSAGE(message.find(path.string()) != std::string::npos, message);
    return message;
  }
  return "read without an error";
}

void expect_refusal(const std::string& name, const std::string& from, const std::string& to,
                    const std::string& expected) {
  CHECK_MESSAGE(refusal(name, from, to).find(expected) != std::string::npos, refusal(name, from, to));
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

// moeut-parity takes all 200 steps; these are the first ones with warm-up, clipping and decay.
TEST_CASE("training follows the golden trajectory") {
  check_trajectory({.precision = Precision::fp64, .max_steps = 25});
  check_trajectory({.precision = Precision::fp32, .max_steps = 20});
  check_trajectory({.precision = Precision::fp32, .routing = RoutingSource::reference, .max_steps = 3});
}

// Of one token q and k have no gradient but rounding; of one expert the regulariser is 0.
TEST_CASE("parity holds for shapes that no file has") {
  const ModelConfig one_of_all{.n_tokens = 5,
                               .d_model = 7,
                               .n_layers = 3,
                               .n_heads = 1,
                               .ff_n_experts = 1,
                               .att_n_experts = 2,
                               .group_size = 1,
                               .ff_k = 1,
                               .att_k = 2,
                               .ff_expert_size = 3};
  const ModelConfig wide{.n_tokens = 300,
                         .d_model = 30,
                         .n_layers = 5,
                         .n_heads = 3,
                         .ff_n_experts = 17,
                         .att_n_experts = 1,
                         .d_head = 13,
                         .group_size = 5,
                         .ff_k = 17,
                         .ff_expert_size = 9};
  for (const Precision precision : {Precision::fp64, Precision::fp32}) {
    check_case("one token", own_case(one_of_all, 1, 1), {.precision = precision, .routing = RoutingSource::reference});
    check_case("wide", own_case(wide, 3, 41), {.precision = precision, .routing = RoutingSource::reference});
  }
}

TEST_CASE("a difference is found wherever it is") {
  const GoldenCase whole = case_named("lm_basic");
  const auto failing = [](const GoldenCase& c) {
    std::string labels;
    for (const Figure& f : figures_for(c, {.precision = Precision::fp32})) {
      if (!f.within()) labels += f.label + (f.note.empty() ? " " : " " + f.note + " ");
    }
    return labels;
  };
  CHECK(failing(whole) == "");
  GoldenCase c = whole;
  c.reg_loss *= 1 + 1e-5;
  CHECK(failing(c) == "reg_loss ");
  c = whole;
  c.ce_loss *= 1 + 1e-5;
  CHECK(failing(c) == "ce_loss ");
  c = whole;
  c.outputs = c.outputs.clone();
  c.outputs.data<double>()[0] = std::numeric_limits<double>::quiet_NaN();
  CHECK(failing(c) == "outputs ");
  c = whole;
  Tensor& gradient = c.gradients.at("transformer.layers.1.ln2.bias");
  gradient = gradient.clone();
  gradient.data<double>()[3] *= 1.01;
  CHECK(failing(c) == "grad_worst transformer.layers.1.ln2.bias ");
}

TEST_CASE("a trajectory that goes another way is found") {
  GoldenTrajectory t = train_bytes();
  t.training.optimizer.weight_decay = 0.02;
  const ParityLimits limits = parity_limits(Precision::fp64, RoutingSource::own);
  TrajectoryErrors errors = measure(t, {.precision = Precision::fp64, .max_steps = 5});
  CHECK(errors.ce_loss_begin > limits.ce_loss_begin);
  CHECK(errors.lr <= limits.learning_rate);
  t = train_bytes();
  t.training.schedule.warmup_steps = 21;
  errors = measure(t, {.precision = Precision::fp64, .max_steps = 1});
  CHECK(errors.lr > 0.04);
  CHECK(errors.ce_loss <= limits.ce_loss);  // the first loss comes before the first update
}

TEST_CASE("relative errors, medians and the report") {
  const Tensor three_four = f64({3, 4}, {2}), zero = f64({0, 0}, {2});
  CHECK(relative_error(f64({3, 4.5}, {2}), three_four) == doctest::Approx(0.1));
  CHECK(relative_error(three_four, zero) == 5);
  CHECK(relative_error(three_four, zero, 10) == 0.5);
  CHECK(relative_error(2.0, 0.0) == 2);
  CHECK(relative_error(std::nan(""), 1.0) == kNoLimit);
  CHECK_THROWS_AS(relative_error(three_four, f64({1}, {1})), ShapeError);
  CHECK(median_of({{"a", 5}, {"b", 1}, {"c", 2}}) == 2);
  CHECK(median_of({{"a", 5}, {"b", 1}}) == 3);
  CHECK(worst_of({{"a", 1}, {"b", 5}, {"c", 2}}).name == "b");
  CHECK(report_line("a b.h5", "lm", {{"x", 1e-7, 2e-6, "name"}, {"y", 3, kNoLimit, ""}}) ==
        "a b.h5 lm  x 1.0e-07 (name)  y 3.0e+00  PASS");
  CHECK(report_line("p", "lm", {{"x", 1e-5, 2e-6, ""}}) == "p lm  x 1.0e-05  FAIL: x 1.0e-05 > 2e-06");
  CHECK(describe_limits(parity_limits(Precision::bf16, RoutingSource::reference), "bf16", "reference") ==
        "limits of bf16, reference routing: outputs 0.006, grad_median 0.02; trajectory: mean_last20 0.003, lr 1e-12");
}

TEST_CASE("what a golden file describes is read") {
  const GoldenCase c = case_named("lm_window_and_padding");
  CHECK(c.config.att_n_experts == 4);
  CHECK(c.tokens.shape() == Shape{2, 26});
  CHECK(c.mask.src_length_mask.shape() == Shape{2, 26});
  CHECK(c.mask.position_mask.shape() == Shape{26, 26});
  CHECK(!c.mask.causal);
  CHECK(case_named("lm_basic").mask.causal);
  CHECK(case_named("lm_eval").gradients.empty());
  CHECK(case_named("lm_group3_att_k1").config.head_dim() == 15);
  CHECK(case_named("body_no_mask").input_gradient.defined());
  CHECK(train_bytes().steps() == 200);
  CHECK(train_bytes().training.optimizer.grad_clip == 0.25);
  CHECK(train_bytes().training.schedule.warmup_steps == 20);
}

TEST_CASE("a golden file that is not what it claims is refused by name") {
  expect_refusal("lm_eval", "moeut-golden/1", "moeut-golden/2", "attribute 'format' is \"moeut-golden/2\", should be");
  expect_refusal("lm_eval", "\"n_heads\"", "\"n_headz\"",
                 "the model has no argument \"n_headz\"; did you mean n_heads");
  expect_refusal("lm_eval", "\"n_heads\": 2", "\"n_heads\": x", "attribute 'config': not valid JSON");
  expect_refusal("lm_eval", "\"n_heads\": 2", "\"n_heads\":-2", "\"n_heads\": -2 is out of range");
  expect_refusal("lm_eval", "\"n_layers\": 4", "\"n_layers\": 5", "n_layers = 5: must be a multiple of group_size");
  expect_refusal("lm_eval", "\"ff_expert_size\": 32", "\"ff_expert_size\": 33", "should be (8, 64, 33)");
  expect_refusal("lm_eval", "\"n_tokens\": 97", "\"n_tokens\": 96", "'params/embedding.weight' is (97, 64), should be");
  const std::string between = ", \"n_heads\": 2, \"ff_n_experts\": 8, \"att_n_experts\": 4, \"d_head\": 32, ";
  expect_refusal("lm_eval", "\"n_layers\": 4" + between + "\"group_size\": 2",
                 "\"n_layers\":98" + between + "\"group_size\":98", "too few for group_size = 98");
  expect_refusal("lm_eval", "\"group_size\": 2", "\"group_size\": 1",
                 "layers.1.attention.k.weight' is no parameter of the model");
  expect_refusal("lm_eval", "out_norm.bias", "out_norm.bian", "dataset 'params/out_norm.bian' is no parameter");
  expect_refusal("lm_eval", "targets", "targetz", "no object 'input/targets'");
  expect_refusal("lm_padding_mask", "explicit", "implicit", "attribute 'mask' is \"implicit\", should be default or");
  expect_refusal("train_bytes", "\"adamw\"", "\"adams\"",
                 "attribute 'optimizer': \"name\": \"adams\" is not supported");
  expect_refusal("train_bytes", "\"betas\": [0.9, 0.999]", "\"betas\": [0.9]       ",
                 "\"betas\": expected two numbers");
  CHECK_THROWS_AS(golden_model_config("[]", true), IoError);
  CHECK_THROWS_WITH_AS(golden_optimizer("{}"), "the field \"name\" is missing", IoError);
}

TEST_CASE("dropout in training cannot be compared") {
  const std::string from = "\"entropy_reg\": 0.05", to = "\"dropout\"    : 0.05";
  expect_refusal("lm_dense_attention", from, to, "asks for dropout in training");
}
