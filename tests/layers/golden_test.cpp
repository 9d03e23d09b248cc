// The golden cases: outputs, losses and every gradient of this implementation against them.
#include "autograd/ops/cross_entropy.h"
#include "tests/layers/golden_case.h"
#include "tests/testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

struct Limits {
  double outputs, gradients;
};

double error_of(const Tensor& actual, const Hdf5File& file, const std::string& name) {
  return relative_l2(actual, tensor_of<double>(file, name));
}

void check_gradients(const Hdf5File& file, Module& model, double limit) {
  model.visit_parameters([&](Parameter& p) {
    CAPTURE(p.name);
    REQUIRE(p.has_gradient);
    CHECK(error_of(p.gradient, file, "grads/" + p.name) <= limit);
  });
}

void check_language_model(const Hdf5File& file, DType dtype, const Limits& limits) {
  MoeutLm model(config_of(file), 1, {.dtype = dtype});
  load_parameters(file, model, dtype);
  const bool train = file.int_attribute("train") != 0;
  Tape tape(train ? Tape::Recording::on : Tape::Recording::off);
  ForwardContext context = train ? ForwardContext::training(tape, 1, 0) : ForwardContext(tape);
  MoeutLm::Options options;
  if (file.string_attribute("mask") == "explicit") options.mask = mask_of(file);
  const MoeutOutput out = model.forward(context, tensor_of<int32_t>(file, "input/tokens"), options);
  const Tensor targets = tensor_of<int32_t>(file, "input/targets");
  const auto ce = ops::cross_entropy(tape, out.outputs, targets, 1.0 / static_cast<double>(targets.size()));
  CHECK(error_of(out.outputs.value(), file, "expect/outputs") <= limits.outputs);
  CHECK(error_of(ce.loss.value(), file, "expect/ce_loss") <= limits.outputs);
  if (!train) {
    CHECK(out.reg_loss.value().item() == 0);
    return;
  }
  CHECK(error_of(out.reg_loss.value(), file, "expect/reg_loss") <= limits.outputs);
  tape.backward({{ce.loss}, {out.reg_loss}});
  check_gradients(file, model, limits.gradients);
}

void check_body(const Hdf5File& file, DType dtype, const Limits& limits) {
  Moeut model(config_of(file), 1, {.dtype = dtype});
  load_parameters(file, model, dtype);
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 1, 0);
  const Variable x = tape.leaf(tensor_of<double>(file, "input/x").to(Device::cpu(), dtype));
  const MoeutOutput out = model.forward(context, x, mask_of(file));
  CHECK(error_of(out.outputs.value(), file, "expect/outputs") <= limits.outputs);
  CHECK(error_of(out.reg_loss.value(), file, "expect/reg_loss") <= limits.outputs);
  const Tensor one = Tensor::from<double>({1}, {1}).to(Device::cpu(), dtype);
  tape.backward_from(
      {{out.outputs, tensor_of<double>(file, "input/upstream").to(Device::cpu(), dtype)}, {out.reg_loss, one}});
  check_gradients(file, model, limits.gradients);
  CHECK(error_of(x.gradient(), file, "grads/__input__") <= limits.gradients);
}

void check_all(DType dtype, const Limits& limits) {
  for (const std::string& name : golden_language_models()) {
    CAPTURE(name);
    check_language_model(open_golden(name), dtype, limits);
  }
  const Hdf5File body = open_golden("body_no_mask");
  REQUIRE(body.string_attribute("kind") == "body");
  check_body(body, dtype, limits);
}

}  // namespace

// The files hold float32: a value's rounding is at most 2^-24 = 6e-8 of it, so an exact implementation is within 1e-7.
TEST_CASE("golden cases in float64") {
  check_all(DType::f64, {.outputs = 3e-7, .gradients = 3e-7});
}

// The official float32 GPU code is within 1.7e-7 and 7e-7 (moeut.md); other orders of summation get a factor.
TEST_CASE("golden cases in float32") {
  check_all(DType::f32, {.outputs = 2e-6, .gradients = 2e-5});
}
