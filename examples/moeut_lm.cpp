// MoEUT as a library: a model of the paper, one training step on random tokens. (The official PyTorch example, in C++.)
#include <cstdio>
#include <random>

#include "autograd/ops/cross_entropy.h"
#include "layers/moeut_lm.h"
#include "trainer/optimizer.h"

int main() {
  using namespace moeut;
  MoeutLm model(profile("44M"), /*seed=*/1);
  AdamW optimizer({.lr = 2.5e-4, .grad_clip = 0.25}, model.parameters());

  constexpr int64_t kSequences = 1, kLength = 128;
  std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> any_token(0, 7999);
  std::vector<int32_t> ids(kSequences * kLength);
  for (int32_t& id : ids) id = any_token(random);
  const Tensor tokens = Tensor::from<int32_t>(ids, {kSequences, kLength});

  Tape tape;
  ForwardContext context = ForwardContext::training(tape, /*seed=*/1, /*first_sample=*/0);
  const MoeutOutput out = model.forward(context, tokens);  // logits, reg_loss, cache; causal by default
  const auto ce = ops::cross_entropy(tape, out.outputs, tokens, 1.0 / static_cast<double>(tokens.size()));
  tape.backward({{ce.loss}, {out.reg_loss}});
  optimizer.step(/*lr=*/2.5e-4);

  std::printf("logits %s, cross-entropy %.4f, reg_loss %.4f, gradient norm %.4f\n",
              out.outputs.shape().str("B T V").c_str(), ce.loss.value().item(), out.reg_loss.value().item(),
              optimizer.read().grad_norm);
}
