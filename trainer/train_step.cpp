#include "trainer/train_step.h"

#include <algorithm>

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
MoeutLm::Losses forward(MoeutLm& model, Tape& tape, const Batch& batch, const StepOptions& options, int64_t first,
                        int64_t count, const Tensor& loss_scale) {
  ForwardContext context =
      ForwardContext::training(tape, options.seed, batch.first_sample + static_cast<uint64_t>(first), batch.sequences);
  context.recompute = options.recompute;
  context.record = options.record;
  context.replay = options.replay;
  const Device device = model.lm_head.weight.value.device();
  const Tensor tokens = sequences_of(batch.tokens, batch.seq_len, first, count, device);
  const Tensor targets = sequences_of(batch.targets, batch.seq_len, first, count, device);
  const double per_target = 1.0 / static_cast<double>(batch.sequences * batch.seq_len);
  return model.losses(context, tokens, targets, {.scale = per_target, .upstream = loss_scale});
}

}  // namespace

void queue_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  const Device device = model.lm_head.weight.value.device();
  const int64_t most = options.micro_batch_size > 0 ? options.micro_batch_size : batch.sequences;
  for (int64_t first = 0; first < batch.sequences; first += most) {
    enter(options, device, Phase::forward);
    Tape tape;
    const int64_t count = std::min(most, batch.sequences - first);
    const MoeutLm::Losses losses = forward(model, tape, batch, options, first, count, optimizer.loss_scale());
    optimizer.add_losses(losses.ce_loss.value(), losses.reg_loss.value());
    enter(options, device, Phase::backward);
    tape.backward({{losses.ce_loss, 1, optimizer.loss_scale()}, {losses.reg_loss, 1, optimizer.loss_scale()}});
  }
  enter(options, device, Phase::optimizer);
  optimizer.step(options.lr);
  enter(options, device, Phase::other);
}

StepResult train_step(MoeutLm& model, AdamW& optimizer, const Batch& batch, const StepOptions& options) {
  queue_step(model, optimizer, batch, options);
  return optimizer.read();
}

Tensor sequences_of(const std::vector<int32_t>& ids, int64_t seq_len, int64_t first, int64_t count, Device device) {
  auto* begin = const_cast<int32_t*>(ids.data()) + first * seq_len;  // a view for reading
  return Tensor::view_of(begin, {count, seq_len}, DType::i32).to(device);
}

}  // namespace moeut
