#include "trainer/train_step.h"

#include "autograd/ops/cross_entropy.h"
#include "core/memory.h"

namespace moeut {
namespace {

/// Tells the timer, if there is one, when the device has come so far.
void enter(const StepOptions& options, Device device, Phase phase) {
  if (options.timer == nullptr) return;
  synchronize(device);
  options.timer->enter(phase);
}

struct Losses {
  Variable ce_loss, reg_loss;
};

/// A micro-batch's share of both losses. The logits live on in the tape alone, which frees them first.
Losses forward(MoeutLm& model, Tape& tape, const StepInputs::MicroBatch& part, const StepForm& whole,
               const StepOptions& options) {
  ForwardContext context = ForwardContext::training(tape, part.rng_state, whole.sequences);
  context.recompute = options.recompute;
  context.record = options.record;
  context.replay = options.replay;
  const MoeutOutput out = model.forward(context, part.tokens);
  const double per_target = 1.0 / static_cast<double>(whole.sequences * whole.seq_len);
  return {ops::cross_entropy(tape, out.outputs, part.targets, per_target).loss, out.reg_loss};
}

}  // namespace

void compute_step(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options) {
  const Device device = model.lm_head.weight.value.device();
  for (int64_t i = 0; i < inputs.form().micro_batches(); ++i) {
    enter(options, device, Phase::forward);
    Tape tape;
    const Losses losses = forward(model, tape, inputs.micro_batch(i), inputs.form(), options);
    optimizer.add_losses(losses.ce_loss.value(), losses.reg_loss.value());
    enter(options, device, Phase::backward);
    tape.backward({{losses.ce_loss, 1, optimizer.loss_scale()}, {losses.reg_loss, 1, optimizer.loss_scale()}});
  }
  enter(options, device, Phase::optimizer);
  optimizer.step();
  enter(options, device, Phase::other);
}

void queue_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  enter(options, model.lm_head.weight.value.device(), Phase::forward);
  StepInputs inputs(StepForm::of(batch, options.micro_batch_size), model.lm_head.weight.value.device());
  inputs.write(batch, options.seed);
  optimizer.set_lr(options.lr);
  compute_step(model, optimizer, inputs, options);
}

StepResult train_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  queue_step(model, optimizer, batch, options);
  return optimizer.read();
}

}  // namespace moeut
