// What training minimises, against the same from logits that are all there.
#include "tests/layers/tiny_model.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

struct Result {
  std::vector<Tensor> losses, gradients;
};

Result derive(MoeutLm& model, const std::function<MoeutLm::Losses(ForwardContext&)>& losses_of) {
  for (Parameter* p : model.parameters()) p->clear_gradient();
  Tape tape;
  ForwardContext context = ForwardContext::training(tape, 7, 100);
  const MoeutLm::Losses losses = losses_of(context);
  Result result{.losses = {losses.ce_loss.value(), losses.reg_loss.value()}};
  tape.backward({{losses.ce_loss}, {losses.reg_loss}});
  for (Parameter* p : model.parameters()) result.gradients.push_back(p->gradient.clone());
  return result;
}

}  // namespace

TEST_CASE("losses: those of the logits, and their gradients") {
  MoeutLm model(tiny_config([](ModelConfig& c) { c.dropout = c.ff_expert_dropout = 0.2; }), 3, kInF64);
  const Tensor tokens = random_ids({3, 6}, 13, 1);
  Tensor targets = random_ids({3, 6}, 13, 2);
  targets.data<int32_t>()[4] = -1;
  const Result expected = derive(model, [&](ForwardContext& context) {
    const MoeutOutput out = model.forward(context, tokens);
    return MoeutLm::Losses{ops::cross_entropy(context.tape, out.outputs, targets, 0.1).loss, out.reg_loss};
  });
  const Result actual =
      derive(model, [&](ForwardContext& context) { return model.losses(context, tokens, targets, {.scale = 0.1}); });
  expect_same_bits(actual.losses, expected.losses);  // one block: the same products and sums
  for (size_t i = 0; i < expected.gradients.size(); ++i) {
    INFO(model.parameters()[i]->name);
    expect_close(actual.gradients[i], expected.gradients[i], 16);  // below the default 64: one scaling more on the way
  }
}
