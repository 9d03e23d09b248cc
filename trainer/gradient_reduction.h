// What becomes of the gradients and losses of a step's micro-batches, on this rank and on all others.
#pragma once

#include "autograd/tape.h"
#include "trainer/optimizer.h"

namespace moeut {

/// One step: per micro-batch of this rank `watch`, its backward pass, `add`; then `finish`.
class GradientReduction {
 public:
  virtual ~GradientReduction() = default;
  /// The tape of a micro-batch before its backward pass, and whether it is the rank's last of the step.
  virtual void watch(Tape& tape, bool last) = 0;
  /// Its losses, scalars, shares of the whole batch's.
  virtual void add(AdamW& optimizer, const Tensor& loss, const Tensor& reg_loss) = 0;
  /// Now the parameters' gradients are those of the whole batch, of all ranks (where the optimizer is sharded: in the
  /// elements that this rank owns), and the optimizer has the losses. On a CUDA device: queued.
  virtual void finish(AdamW& optimizer) = 0;
};

}  // namespace moeut
