// Training with layers that are run again in the backward pass, against the same model with everything kept.
#include "core/memory.h"
#include "tests/layers/tiny_model.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr int64_t kBatch = 3, kTime = 6;

/// Every kind of dropout.
ModelConfig dropping(int64_t att_experts, int64_t layers) {
  return tiny_config([=](ModelConfig& c) {
    c.att_n_experts = att_experts;
    c.n_layers = layers;
    c.dropout = 0.2;
    c.ff_expert_dropout = 0.3;
    c.att_expert_dropout = 0.4;
  });
}

struct How {
  bool recompute = false;
  bool with_loss = true, with_regulariser = true;  ///< what is derived
  AttentionMask mask = {.causal = true};
  const RoutingTrace* replay = nullptr;
};

struct Pass {
  std::vector<Tensor> losses;  ///< logits too
  std::vector<Tensor> gradients;
  RoutingTrace trace;

  Pass(MoeutLm& model, const How& how) {
    const OneThread one;
    for (Parameter* p : model.parameters()) p->clear_gradient();
    for (const int64_t micro_batch : {0, 1}) add(model, how, micro_batch);
    for (Parameter* p : model.parameters()) gradients.push_back(p->has_gradient ? p->gradient.clone() : Tensor());
  }

 private:
  void add(MoeutLm& model, const How& how, int64_t micro_batch) {
    Tape tape;
    auto context = ForwardContext::training(tape, 7, static_cast<uint64_t>(100 + micro_batch * kBatch), 2 * kBatch);
    context.recompute = how.recompute;
    context.replay = how.replay;
    if (micro_batch == 0) context.record = &trace;
    const auto stream = static_cast<uint64_t>(micro_batch);
    const MoeutOutput out = model.forward(context, random_ids({kBatch, kTime}, 13, stream), {.mask = how.mask});
    const Tensor targets = random_ids({kBatch, kTime}, 13, 10 + stream);
    const Variable loss = ops::cross_entropy(tape, out.outputs, targets, 1.0 / (2 * kBatch * kTime)).loss;
    for (const Variable& v : {out.outputs, loss, out.reg_loss}) losses.push_back(v.value());
    const Variable none(Tensor::zeros({1}, out.reg_loss.dtype()));
    tape.backward({{how.with_loss ? loss : none}, {how.with_regulariser ? out.reg_loss : none}});
  }
};

bool is_expert_stack(const Parameter& p) {
  return p.value.shape().rank() == 3;
}

/// Losses bit by bit. Gradients too, but for the expert stacks where repeats share them: their parts are summed one
/// repeat at a time instead of all at once, in another grouping of the same few hundred terms.
void check_same(MoeutLm& model, const Pass& plain, const Pass& recomputed, double roundings) {
  expect_same_bits(recomputed.losses, plain.losses);
  expect_same_bits(recomputed.trace.experts, plain.trace.experts);
  const std::vector<Parameter*> parameters = model.parameters();
  for (size_t i = 0; i < parameters.size(); ++i) {
    INFO(parameters[i]->name);
    REQUIRE(recomputed.gradients[i].defined() == plain.gradients[i].defined());
    if (!plain.gradients[i].defined()) continue;
    if (model.config().repeats() > 1 && is_expert_stack(*parameters[i])) {
      expect_close(recomputed.gradients[i], plain.gradients[i], roundings);
    } else {
      CHECK(same_bits(recomputed.gradients[i], plain.gradients[i]));
    }
  }
}

// An element of a stack's gradient is a sum of up to 18 tokens · 3 repeats · 2 micro-batches = 108 products.
constexpr double kRoundings = 2 * 108;

}  // namespace

TEST_CASE("recompute in layers: a layer that is used once has the same bits in every precision, dropout included") {
  for (const int64_t att_experts : {1, 3}) {
    for (const ModuleOptions& in : {kInF64, ModuleOptions{}, ModuleOptions{.compute = DType::bf16}}) {
      MoeutLm model(dropping(att_experts, 2), 3, in);
      check_same(model, Pass(model, {}), Pass(model, {.recompute = true}), 0);
    }
  }
}

TEST_CASE("recompute in layers: repeats change nothing but the order of sums of experts' gradients") {
  for (const int64_t att_experts : {1, 3}) {
    for (const ModuleOptions& in : {kInF64, ModuleOptions{}, ModuleOptions{.compute = DType::bf16}}) {
      MoeutLm model(dropping(att_experts, 6), 3, in);
      check_same(model, Pass(model, {}), Pass(model, {.recompute = true}), kRoundings);
    }
  }
}

TEST_CASE("recompute in layers: twice the same bits") {
  MoeutLm model(dropping(3, 6), 3);
  const Pass first(model, {.recompute = true}), second(model, {.recompute = true});
  expect_same_bits(second.losses, first.losses);
  expect_same_bits(second.gradients, first.gradients);
}

TEST_CASE("recompute in layers: with every kind of mask") {
  MoeutLm model(dropping(3, 4), 3, kInF64);
  Tensor padding = Tensor::zeros({kBatch, kTime}, DType::u8), positions = Tensor::zeros({kTime, kTime}, DType::u8);
  for (const int64_t hidden : {4, 5, 11}) padding.data<uint8_t>()[hidden] = 1;
  for (const int64_t hidden : {3, 8, 20, 35}) positions.data<uint8_t>()[hidden] = 1;
  for (const AttentionMask& mask :
       {AttentionMask{.src_length_mask = padding}, AttentionMask{.position_mask = positions, .causal = true},
        AttentionMask{.src_length_mask = padding, .position_mask = positions}}) {
    check_same(model, Pass(model, {.mask = mask}), Pass(model, {.recompute = true, .mask = mask}), kRoundings);
  }
}

TEST_CASE("recompute in layers: losses derived one without the other") {
  MoeutLm model(dropping(3, 4), 3, kInF64);
  for (const bool with_loss : {true, false}) {
    How how{.with_loss = with_loss, .with_regulariser = !with_loss};
    const Pass plain(model, how);
    how.recompute = true;
    check_same(model, plain, Pass(model, how), kRoundings);
  }
}

TEST_CASE("recompute in layers: a router without a regulariser") {
  ModelConfig config = dropping(3, 4);
  config.entropy_reg = 0;
  MoeutLm model(config, 3, kInF64);
  check_same(model, Pass(model, {}), Pass(model, {.recompute = true}), kRoundings);
}

TEST_CASE("recompute in layers: experts that are replayed are taken again in the backward pass") {
  MoeutLm model(dropping(3, 4), 3, kInF64);
  const Pass own(model, {});
  RoutingTrace other = own.trace;
  for (Tensor& experts : other.experts) {  // the first choice of the first row becomes one that was not chosen
    experts = experts.clone();
    auto* ids = experts.data<int32_t>();
    const int32_t first = ids[0];
    while (ids[0] == first || ids[0] == ids[1]) ids[0] = (ids[0] + 1) % 3;
  }
  const Pass plain(model, {.replay = &other});
  check_same(model, plain, Pass(model, {.recompute = true, .replay = &other}), kRoundings);
  CHECK_FALSE(same_bits(plain.losses[0], own.losses[0]));
}

TEST_CASE("recompute in layers: each application costs its input and its logits, no more") {
  const auto in_use_after_forward = [](int64_t layers, bool recompute) {
    MoeutLm model(dropping(3, layers), 3, {.device = Device::meta()});
    const size_t before = memory_stats(Device::meta()).in_use;
    Tape tape;
    ForwardContext context = ForwardContext::training(tape, 7, 0);
    context.recompute = recompute;
    const Tensor tokens = Tensor::zeros({64, 64}, DType::i32, Device::meta());
    const MoeutOutput out = model.forward(context, tokens);
    return memory_stats(Device::meta()).in_use - before;
  };
  constexpr size_t kTokens = 64 * 64, kSaved = kTokens * 4 * (8 + 5 + 2 * 2 * 3);
  const size_t four = in_use_after_forward(4, true), eight = in_use_after_forward(8, true);
  expect_near(static_cast<double>(eight - four), 4 * kSaved, 0.125);  // blocks are rounded up by at most an eighth
  CHECK(in_use_after_forward(8, false) - in_use_after_forward(4, false) > 5 * 4 * kSaved);
}
