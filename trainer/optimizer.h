// AdamW with global-norm clipping, over all parameters of a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "kernels/grad_scaler.h"
#include "trainer/config.h"

namespace moeut {

/// The last step, and what was counted since the optimizer was made.
struct StepResult {
  double loss = 0;       ///< mean cross-entropy of the batch's targets, nats per token
  double reg_loss = 0;   ///< entropy regulariser, a mean over sequences
  double grad_norm = 0;  ///< before clipping
  /// False: loss or gradient were not finite. Parameters and moments are then as they were.
  bool updated = false;
  int64_t steps = 0;
  int64_t updates = 0;  ///< made: AdamW's t, also those before a resume
  int64_t skipped = 0;  ///< steps left out because gradients overflowed at their loss scale
  /// Number, from 1, of the first step that was not finite for any other reason, 0 if none was; no later one is made.
  int64_t refused = 0;
  GradScaler scaler = {};  ///< for the next step
};

/// Keeps the two moments of each parameter, and what decides a step, on the parameters' device: nothing here but read()
/// waits for it. Parameters belong to the caller and must outlive the optimizer.
class AdamW {
 public:
  /// Moments start at 0. A parameter that is not trainable is left out.
  AdamW(const OptimizerSection& options, const std::vector<Parameter*>& parameters);

  /// From now on (fp16) gradients are those of loss_scale() times the loss, and steps that overflow are left out.
  void scale_losses();
  /// What both losses are to be multiplied by on the way back, a scalar in float32; undefined: 1.
  const Tensor& loss_scale() const { return loss_scale_; }

  /// The learning rate of the next steps.
  void set_lr(double lr);
  /// Adds a micro-batch's share, scalars, to the losses of the step under way. Without any, they are 0.
  void add_losses(const Tensor& loss, const Tensor& reg_loss);
  /// One update from the gradients, clipped by min(1, grad_clip / (norm + 1e-6)), if losses and their norm, ‖g‖₂ over
  /// all parameters in float64, are finite; then forgets them. Throws ShapeError naming a parameter that has no
  /// gradient. All that it reads lies on the device, so that it may be recorded (core/device_graph.h).
  void step();
  void step(double lr) {
    set_lr(lr);
    step();
  }

  /// Waits for the device.
  StepResult read() const;

  /// Goes on from a checkpoint.
  void restore(int64_t updates, const GradScaler& scaler);

  /// What a checkpoint holds of one parameter, besides its value.
  struct Moments {
    Parameter* parameter = nullptr;
    Tensor exp_avg, exp_avg_sq;
  };
  std::vector<Moments>& moments() { return moments_; }

 private:
  OptimizerSection options_;
  std::vector<Moments> moments_;
  Tensor scalars_;     // a kernels::StepScalars
  Tensor loss_scale_;  // undefined where losses are not scaled
  Tensor scale_place_;
};

}  // namespace moeut
