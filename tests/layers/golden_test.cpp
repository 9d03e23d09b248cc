// The golden cases (float64, the official code's semantics): outputs, losses and every gradient of this implementation
// against them.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "autograd/ops/cross_entropy.h"
#include "data/hdf5_file.h"
#include "layers/moeut_lm.h"

using namespace moeut;

namespace {

ModelConfig config_of(const Hdf5File& file) {
  const auto j = nlohmann::json::parse(file.string_attribute("config"));
  ModelConfig c;
  const std::vector<std::pair<const char*, int64_t*>> integers = {{"n_tokens", &c.n_tokens},
                                                                  {"d_model", &c.d_model},
                                                                  {"n_layers", &c.n_layers},
                                                                  {"n_heads", &c.n_heads},
                                                                  {"ff_n_experts", &c.ff_n_experts},
                                                                  {"att_n_experts", &c.att_n_experts},
                                                                  {"d_head", &c.d_head},
                                                                  {"group_size", &c.group_size},
                                                                  {"ff_k", &c.ff_k},
                                                                  {"att_k", &c.att_k},
                                                                  {"ff_expert_size", &c.ff_expert_size}};
  for (const auto& [key, field] : integers) {
    if (j.contains(key) && !j[key].is_null()) *field = j[key].get<int64_t>();
  }
  if (j.contains("entropy_reg")) c.entropy_reg = j["entropy_reg"];
  if (j.contains("att_entropy_reg")) c.att_entropy_reg = j["att_entropy_reg"];
  return c;
}

Shape shape_of(const Hdf5File& file, const std::string& name) {
  std::vector<int64_t> extents;
  for (const uint64_t n : file.info(name).shape) extents.push_back(static_cast<int64_t>(n));
  return Shape(extents);
}

template <class T>
Tensor tensor_of(const Hdf5File& file, const std::string& name) {
  return Tensor::from<T>(file.read<T>(name), shape_of(file, name));
}

/// ‖a - b‖ / ‖b‖.
double relative_error(const Tensor& a, const std::vector<double>& b) {
  const std::vector<double> x = a.to(Device::cpu(), DType::f64).to_vector<double>();
  REQUIRE(x.size() == b.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += (x[i] - b[i]) * (x[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / std::max(norm, 1e-300));
}

struct Limits {
  double outputs, gradients;
};

AttentionMask mask_of(const Hdf5File& file) {
  AttentionMask mask;
  if (file.exists("input/src_length_mask")) mask.src_length_mask = tensor_of<uint8_t>(file, "input/src_length_mask");
  if (file.exists("input/position_mask")) mask.position_mask = tensor_of<uint8_t>(file, "input/position_mask");
  return mask;
}

void load(const Hdf5File& file, Module& model, DType dtype) {
  model.visit_parameters(
      [&](Parameter& p) { p.value.copy_from(tensor_of<double>(file, "params/" + p.name).to(Device::cpu(), dtype)); });
}

void check_gradients(const Hdf5File& file, Module& model, double limit) {
  model.visit_parameters([&](Parameter& p) {
    CAPTURE(p.name);
    REQUIRE(p.has_gradient);
    CHECK(relative_error(p.gradient, file.read<double>("grads/" + p.name)) <= limit);
  });
}

void check_language_model(const Hdf5File& file, DType dtype, const Limits& limits) {
  MoeutLm model(config_of(file), 1, {.dtype = dtype});
  load(file, model, dtype);
  const bool train = file.int_attribute("train") != 0;
  Tape tape(train ? Tape::Recording::on : Tape::Recording::off);
  ForwardContext context = train ? ForwardContext::training(tape, 1, 0) : ForwardContext(tape);
  MoeutLm::Options options;
  if (file.string_attribute("mask") == "explicit") options.mask = mask_of(file);
  const MoeutOutput out = model.forward(context, tensor_of<int32_t>(file, "input/tokens"), options);
  const Tensor targets = tensor_of<int32_t>(file, "input/targets");
  const auto ce = ops::cross_entropy(tape, out.outputs, targets, 1.0 / static_cast<double>(targets.size()));
  CHECK(relative_error(out.outputs.value(), file.read<double>("expect/outputs")) <= limits.outputs);
  CHECK(relative_error(ce.loss.value(), file.read<double>("expect/ce_loss")) <= limits.outputs);
  if (!train) {
    CHECK(out.reg_loss.value().item() == 0);
    return;
  }
  CHECK(relative_error(out.reg_loss.value(), file.read<double>("expect/reg_loss")) <= limits.outputs);
  tape.backward({{ce.loss}, {out.reg_loss}});
  check_gradients(file, model, limits.gradients);
}

void check_body(const Hdf5File& file, DType dtype, const Limits& limits) {
  Moeut model(config_of(file), 1, {.dtype = dtype});
  load(file, model, dtype);
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 1, 0);
  const Variable x = tape.leaf(tensor_of<double>(file, "input/x").to(Device::cpu(), dtype));
  const MoeutOutput out = model.forward(context, x, mask_of(file));
  CHECK(relative_error(out.outputs.value(), file.read<double>("expect/outputs")) <= limits.outputs);
  CHECK(relative_error(out.reg_loss.value(), file.read<double>("expect/reg_loss")) <= limits.outputs);
  const Tensor one = Tensor::from<double>({1}, {1}).to(Device::cpu(), dtype);
  tape.backward_from(
      {{out.outputs, tensor_of<double>(file, "input/upstream").to(Device::cpu(), dtype)}, {out.reg_loss, one}});
  check_gradients(file, model, limits.gradients);
  CHECK(relative_error(x.gradient(), file.read<double>("grads/__input__")) <= limits.gradients);
}

void check_all(DType dtype, const Limits& limits) {
  for (const char* name : {"lm_basic", "lm_dense_attention", "lm_eval", "lm_group3_att_k1", "lm_padding_mask",
                           "lm_unaligned", "lm_window_and_padding", "body_no_mask"}) {
    CAPTURE(name);
    const Hdf5File file(std::filesystem::path(MOEUT_SOURCE_DIR) / "tests/golden" / (std::string(name) + ".h5"));
    file.string_attribute("kind") == "body" ? check_body(file, dtype, limits)
                                            : check_language_model(file, dtype, limits);
  }
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
