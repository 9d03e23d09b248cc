#include "trainer/train_step.h"

#include "core/memory.h"

namespace moeut {
namespace {

/// Tells the timer, if there is one, when the device has come so far.
void enter(const StepOptions& options, Device device, Phase phase) {
  if (options.timer == nullptr) return;
  synchronize(device);
  options.timer->enter(phase);
}

/// A micro-batch's share of both losses, whose gradients backward will multiply by `loss_scale`.
MoeutLm::Losses forward(MoeutLm& model, Tape& tape, const StepInputs::MicroBatch& part, const StepForm& whole,
                        const StepOptions& options, const Tensor& loss_scale) {
  ForwardContext context = ForwardContext::training(tape, part.rng_state, whole.sequences);
  context.recompute = options.recompute;
  context.record = options.record;
  context.replay = options.replay;
  const double per_target = 1.0 / static_cast<double>(whole.sequences * whole.seq_len);
  return model.losses(context, part.tokens, part.targets, {.scale = per_target, .upstream = loss_scale});
}

}  // namespace

void compute_step(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options) {
  const Device device = model.lm_head.weight.value.device();
  for (int64_t i = 0; i < inputs.form().micro_batches(); ++i) {
    enter(options, device, Phase::forward);
    Tape tape;
    const MoeutLm::Losses losses =
        forward(model, tape, inputs.micro_batch(i), inputs.form(), options, optimizer.loss_scale());
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
