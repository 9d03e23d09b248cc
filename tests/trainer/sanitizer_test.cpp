// Optimizer, training step and cached decoding on CUDA, small enough for compute-sanitizer (see
// tests/ops/sanitizer_test.cpp).
#include "tests/ops/device_testing.h"
#include "tests/trainer/ragged_model.h"
#include "trainer/train_step.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr DType kComputeTypes[] = {DType::f64, DType::f32, DType::tf32, DType::bf16, DType::f16};

ModuleOptions modules(DType compute, Device device) {
  return {.dtype = wide_of(compute), .device = device, .compute = compute};
}

Batch ragged_batch() {
  Batch batch{.sequences = 3, .seq_len = 11, .first_sample = 100};
  batch.tokens = random_ids({33}, 37, 1).to_vector<int32_t>();
  batch.targets = random_ids({33}, 37, 2).to_vector<int32_t>();
  return batch;
}

/// Two steps, the second after the update of the first, that write down the experts they take or take those of
/// `traces`.
std::vector<StepResult> two_steps(const ModelConfig& config, const ModuleOptions& options, RoutingTrace traces[2],
                                  bool record) {
  MoeutLm model(config, 1, options);
  AdamW optimizer({.eps = 1e-2}, model.parameters());
  if (options.dtype == DType::f32) optimizer.scale_losses();
  optimizer.restore(0, {.scale = 128});
  std::vector<StepResult> results;
  for (int step = 0; step < 2; ++step) {
    StepOptions how{.lr = 1e-3, .seed = 3};
    if (record) how.record = &traces[step];
    if (!record) how.replay = &traces[step];
    results.push_back(train_step(model, optimizer, ragged_batch(), how));
  }
  return results;
}

double allowed(DType compute) {
  if (compute == wide_of(compute)) return 1024 * epsilon(compute);
  return 4 * spacing_of(compute);
}

/// Parameters of sizes around the optimizer's blocks and vectors, more than fit into one launch.
struct Optimized {
  std::vector<Parameter> parameters;

  Optimized(DType compute, Device device) {
    for (int64_t i = 0; i < 60; ++i) {
      const int64_t size = i == 0 ? 16384 : i == 1 ? 16385 : i == 2 ? 40001 : i;
      parameters.push_back(make_parameter("p", {size}, modules(compute, device), i % 3 != 0));
      Parameter& p = parameters.back();
      const auto number = static_cast<uint64_t>(i);
      p.value = random_tensor({size}, number, 1, wide_of(compute)).to(device);
      p.gradient = random_tensor({size}, 100 + number, 1, wide_of(compute)).to(device);
    }
  }

  /// The norm of the gradient; moving averages, values and their narrow copies after two updates.
  std::pair<double, std::vector<Tensor>> update() {
    std::vector<Parameter*> all;
    for (Parameter& p : parameters) all.push_back(&p);
    AdamW optimizer({.weight_decay = 0.1, .ema_decay = 0.75, .spike_z = 9, .spike_window = 2}, all);
    double norm = 0;
    for (int step = 0; step < 2; ++step) {
      for (Parameter& p : parameters) p.has_gradient = true;
      optimizer.step(1e-2);
      norm = optimizer.read().grad_norm;
    }
    std::vector<Tensor> results;
    for (const AdamW::Moments& m : optimizer.moments()) results.push_back(m.ema.to(Device::cpu()));
    for (const Parameter& p : parameters) {
      results.push_back(p.value.to(Device::cpu()));
      if (p.narrow.defined()) results.push_back(p.narrow.to(Device::cpu()));
    }
    return {norm, results};
  }
};

/// Logits of a prompt and of two tokens after it, one at a time.
std::vector<Tensor> decode(DType compute, Device device) {
  ModelConfig config = ragged_model(4);
  MoeutLm model(config, 1, modules(compute, device));
  const auto cache = model.new_cache();
  std::vector<Tensor> logits;
  for (const int64_t count : {9, 1, 1}) {
    Tape tape(Tape::Recording::off);
    ForwardContext context(tape);
    const Tensor tokens = random_ids({2, count}, config.n_tokens, 5 + static_cast<uint64_t>(count)).to(device);
    logits.push_back(model.forward(context, tokens, {.cache = cache}).outputs.value().to(Device::cpu()));
  }
  return logits;
}

}  // namespace

TEST_SUITE("sanitizer") {
  TEST_CASE("sanitizer: AdamW, the gradient's norm and the narrow copies") {
    if (cuda_device_count() == 0) return;
    const OneThread quick;
    for (const DType compute : {DType::f64, DType::f32, DType::bf16, DType::f16}) {
      INFO(name_of(compute));
      const auto [norm, expected] = Optimized(compute, Device::cpu()).update();
      const auto [cuda_norm, actual] = Optimized(compute, Device::cuda()).update();
      expect_near(cuda_norm, norm, 1e-6);  // clipping turns on it; both sum squares in float64
      REQUIRE(actual.size() == expected.size());
      for (size_t i = 0; i < actual.size(); ++i) {
        INFO("result ", i);
        CHECK(relative_l2(actual[i], expected[i]) <=
              (actual[i].dtype() == wide_of(compute) ? 64 * epsilon(wide_of(compute)) : spacing_of(compute)));
      }
      trim(Device::cuda());
    }
  }

  TEST_CASE("sanitizer: training steps of a model without one even width") {
    if (cuda_device_count() == 0) return;
    const OneThread quick;
    for (const int64_t att_n_experts : {1, 4}) {
      for (const DType compute : kComputeTypes) {
        INFO(name_of(compute), ", attention experts ", att_n_experts);
        RoutingTrace traces[2];
        const ModelConfig config = ragged_model(att_n_experts);
        const auto expected = two_steps(config, modules(compute, Device::cpu()), traces, true);
        const auto actual = two_steps(config, modules(compute, Device::cuda()), traces, false);
        for (size_t i = 0; i < 2; ++i) {
          CHECK(actual[i].updated);
          expect_near(actual[i].loss, expected[i].loss, allowed(compute));
          expect_near(actual[i].reg_loss, expected[i].reg_loss, allowed(compute));
          expect_near(actual[i].grad_norm, expected[i].grad_norm, allowed(compute));
        }
        trim(Device::cuda());
      }
    }
  }

  // Each device routes by its own logits: in narrow formats a near tie may fall either way, so exact formats alone.
  TEST_CASE("sanitizer: decoding with a cache") {
    if (cuda_device_count() == 0) return;
    const OneThread quick;
    for (const DType compute : {DType::f64, DType::f32}) {
      INFO(name_of(compute));
      const std::vector<Tensor> expected = decode(compute, Device::cpu()), actual = decode(compute, Device::cuda());
      for (size_t i = 0; i < expected.size(); ++i) expect_close(actual[i], expected[i], 1024);
      trim(Device::cuda());
    }
    for (const DType compute : {DType::tf32, DType::bf16, DType::f16}) {
      for (const Tensor& logits : decode(compute, Device::cuda())) CHECK(std::isfinite(relative_l2(logits, logits)));
    }
    trim(Device::cuda());
  }
}
