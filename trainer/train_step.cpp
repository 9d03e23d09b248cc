#include "trainer/train_step.h"

#include "autograd/op.h"
#include "core/memory.h"
#include "kernels/elementwise.h"

namespace moeut {
namespace {

/// Tells the timer, if there is one, when the device has come so far.
void enter(const StepOptions& options, Device device, Phase phase) {
  if (options.timer == nullptr) return;
  synchronize(device);
  options.timer->enter(phase);
}

/// a · b of two scalars; an undefined one stands for 1.
Tensor product(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() ? a : b;
  Tensor y = Tensor::empty({1}, a.dtype(), a.device());
  on_device_floating(a.device(), a.dtype(), [&]<class T>(auto tag) {
    kernels::scale_by_ratio<T>(tag, Launch{}, 1, b.data<T>(), nullptr, a.data<T>(), y.data<T>(), Mode::overwrite);
  });
  return y;
}

/// A micro-batch's share of both losses. Backward will multiply the cross-entropy's gradient by `upstream`; for a
/// padded batch that holds the division by its targets, whose number a recorded step must not fix.
MoeutLm::Losses forward(MoeutLm& model, Tape& tape, const StepInputs::MicroBatch& part, const StepForm& whole,
                        const StepOptions& options, const Tensor& upstream) {
  ForwardContext context = ForwardContext::training(tape, part.rng_state, whole.sequences);
  context.recompute = options.recompute;
  context.record = options.record;
  context.replay = options.replay;
  const double scale = whole.padded ? 1.0 : 1.0 / static_cast<double>(whole.sequences * whole.seq_len);
  return model.losses(context, part.tokens, part.targets, {.scale = scale, .upstream = upstream},
                      attention_mask(part.document_starts));
}

}  // namespace

void accumulate_gradients(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options) {
  const Device device = model.lm_head.weight.value.device();
  const Tensor upstream = product(optimizer.loss_scale(), inputs.per_target());
  for (int64_t i = 0; i < inputs.form().micro_batches(); ++i) {
    enter(options, device, Phase::forward);
    Tape tape;
    const MoeutLm::Losses losses = forward(model, tape, inputs.micro_batch(i), inputs.form(), options, upstream);
    optimizer.add_losses(product(losses.ce_loss.value(), inputs.per_target()), losses.reg_loss.value());
    enter(options, device, Phase::backward);
    tape.backward({{losses.ce_loss, 1, upstream}, {losses.reg_loss, 1, optimizer.loss_scale()}});
  }
}

void compute_step(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options) {
  const Device device = model.lm_head.weight.value.device();
  accumulate_gradients(model, optimizer, inputs, options);
  enter(options, device, Phase::optimizer);
  optimizer.step();
  enter(options, device, Phase::other);
}

void queue_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  const Tensor& head = model.lm_head.weight.value;
  enter(options, head.device(), Phase::forward);
  StepInputs inputs(StepForm::of(batch, options.micro_batch_size), head.device(), head.dtype());
  inputs.write(batch, options.seed);
  optimizer.set_lr(options.lr);
  compute_step(model, optimizer, inputs, options);
}

StepResult train_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  queue_step(model, optimizer, batch, options);
  return optimizer.read();
}

}  // namespace moeut
