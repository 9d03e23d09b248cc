// A training step on meta: memory is counted but not had. Its tensors lie at an address that cannot be read, so a
// kernel or copy that touched one would end this program.
#include "core/memory.h"
#include "tests/layers/tiny_model.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

ModelConfig config() {
  return tiny_config([](ModelConfig& c) {
    c.n_tokens = 500;
    c.d_model = 64;
    c.d_head = 32;
    c.ff_n_experts = 8;
    c.ff_expert_size = 32;
    c.dropout = 0.1;
    c.ff_expert_dropout = 0.1;
  });
}

/// The peak over what was in use before, of a model's construction, forward and backward pass.
size_t peak_of_step(const ModelConfig& c, Device device) {
  const size_t before = memory_stats(device).in_use;
  reset_peak(device);
  MoeutLm model(c, 1, {.device = device});
  const Shape shape{2, 48};
  const Tensor tokens = random_ids(shape, c.n_tokens, 1).to(device),
               targets = random_ids(shape, c.n_tokens, 2).to(device);
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 1, 0);
  const MoeutOutput out = model.forward(context, tokens);
  const auto ce = ops::cross_entropy(tape, out.outputs, targets, 1.0 / 96);
  tape.backward({{ce.loss}, {out.reg_loss}});
  model.visit_parameters([](Parameter& p) { CHECK(p.has_gradient); });
  return memory_stats(device).peak - before;
}

}  // namespace

TEST_CASE("meta: a training step's peak is the CPU's") {
  for (const int64_t att_experts : {1, 3}) {
    ModelConfig c = config();
    c.att_n_experts = att_experts;
    const auto on_cpu = static_cast<double>(peak_of_step(c, Device::cpu()));
    const auto on_meta = static_cast<double>(peak_of_step(c, Device::meta()));
    // Not counted: copies on the host while parameters are initialised, and tokens checked there.
    expect_near(on_meta, on_cpu, 0.02);
  }
}

TEST_CASE("meta: costs the host next to nothing, whatever the model's size") {
  const size_t in_use = memory_stats(Device::cpu()).in_use;
  reset_peak(Device::cpu());
  const size_t meta_before = memory_stats(Device::meta()).in_use;
  ModelConfig c = profile("1B");
  c.ff_expert_dropout = 0.1;
  CHECK(peak_of_step(c, Device::meta()) > size_t{8} << 30);  // float32 parameters and gradients alone
  CHECK(memory_stats(Device::cpu()).peak - in_use < size_t{1} << 20);
  CHECK(memory_stats(Device::meta()).in_use == meta_before);
}

TEST_CASE("meta: evaluation with a cache and masks") {
  MoeutLm model(config(), 1, {.device = Device::meta()});
  const auto cache = model.new_cache();
  for (const int64_t chunk : {3, 1, 4}) {
    Tape tape(Tape::Recording::off);
    ForwardContext context(tape);
    const Tensor mask = Tensor::zeros({chunk, chunk}, DType::u8, Device::meta());
    const MoeutOutput out = model.forward(context, Tensor::zeros({2, chunk}, DType::i32, Device::meta()),
                                          {.mask = AttentionMask{.position_mask = mask}, .cache = cache});
    CHECK(out.outputs.shape() == Shape{2, chunk, 500});
  }
  CHECK(cache->length() == 8);
}
