#include "trainer/train_step.h"

#include "autograd/op.h"
#include "core/memory.h"
#include "kernels/elementwise.h"

namespace moeut {
namespace {

const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::forward:
      return "forward";
    case Phase::backward:
      return "backward";
    case Phase::optimizer:
      return "update";
    default:
      return "step";
  }
}

/// Tells the watchdog, and the timer, if there is one, when the device has come so far.
void enter(const StepOptions& options, Device device, Phase phase) {
  if (options.watchdog != nullptr) options.watchdog->enter(name_of(phase), options.step);
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
  ForwardContext context = ForwardContext::training(tape, part.rng_state, whole.whole_sequences);
  context.recompute = options.recompute;
  context.record = options.record;
  context.replay = options.replay;
  const double scale = whole.padded ? 1.0 : 1.0 / static_cast<double>(whole.whole_sequences * whole.seq_len);
  return model.losses(context, part.tokens, part.targets, {.scale = scale, .upstream = upstream},
                      attention_mask(part.document_starts));
}

void reduce(AdamW& optimizer, const StepOptions& options) {
  if (options.reduction == nullptr) return;
  if (options.watchdog == nullptr) return options.reduction->finish(optimizer);
  options.watchdog->enter("all-reduce", options.step);
  {
    const Watchdog::Waiting waiting(*options.watchdog);
    options.reduction->finish(optimizer);
  }
  options.watchdog->enter("update", options.step);
}

}  // namespace

void accumulate_gradients(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options) {
  const Device device = model.lm_head.weight.value.device();
  const Tensor upstream = product(optimizer.loss_scale(), inputs.per_target());
  const int64_t count = inputs.form().micro_batches();
  for (int64_t i = 0; i < count; ++i) {
    enter(options, device, Phase::forward);
    Tape tape;
    const MoeutLm::Losses losses = forward(model, tape, inputs.micro_batch(i), inputs.form(), options, upstream);
    const Tensor loss = product(losses.ce_loss.value(), inputs.per_target()), reg_loss = losses.reg_loss.value();
    enter(options, device, Phase::backward);
    if (options.reduction != nullptr) options.reduction->watch(tape, i == count - 1);
    tape.backward({{losses.ce_loss, 1, upstream}, {losses.reg_loss, 1, optimizer.loss_scale()}});
    options.reduction != nullptr ? options.reduction->add(optimizer, loss, reg_loss)
                                 : optimizer.add_losses(loss, reg_loss);
  }
}

void compute_step(MoeutLm& model, AdamW& optimizer, const StepInputs& inputs, const StepOptions& options) {
  const Device device = model.lm_head.weight.value.device();
  accumulate_gradients(model, optimizer, inputs, options);
  enter(options, device, Phase::optimizer);
  reduce(optimizer, options);
  optimizer.step();
  enter(options, device, Phase::other);
}

void queue_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  const Tensor& head = model.lm_head.weight.value;
  enter(options, head.device(), Phase::forward);
  const WholeBatch whole = options.whole.value_or(WholeBatch::of(batch));
  StepInputs inputs(StepForm::of(batch, options.micro_batch_size, whole.sequences), head.device(), head.dtype());
  inputs.write(batch, whole, options.seed);
  optimizer.set_lr(options.lr);
  compute_step(model, optimizer, inputs, options);
}

StepResult train_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  queue_step(model, optimizer, batch, options);
  return optimizer.read();
}

}  // namespace moeut
