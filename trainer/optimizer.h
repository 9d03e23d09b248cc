// AdamW with global-norm clipping, over all parameters of a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "kernels/grad_scaler.h"
#include "trainer/config.h"
#include "trainer/shard_plan.h"

namespace moeut {

/// Steps of this process by number, from 1: how many there were in all, and the last StepList::kKept of them.
struct NotedSteps {
  int64_t count = 0;
  std::vector<int64_t> last;
};

/// The last step, and what was counted since the optimizer was made.
struct StepResult {
  double loss = 0;       ///< mean cross-entropy of the batch's targets, nats per token
  double reg_loss = 0;   ///< entropy regulariser, a mean over sequences
  double grad_norm = 0;  ///< before clipping
  /// False: loss or gradient were not finite, or a spike. Parameters and moments are then as they were.
  bool updated = false;
  int64_t steps = 0;
  int64_t updates = 0;  ///< made: AdamW's t, also those before a resume
  int64_t skipped = 0;  ///< steps left out because gradients overflowed at their loss scale
  NotedSteps bad;       ///< left out because loss or gradient were not finite for any other reason
  /// The first of optimizer.max_bad_steps bad steps in a row; 0: there were not so many. No later update is made.
  int64_t refused = 0;
  NotedSteps spikes;
  double loss_z = 0, norm_z = 0;  ///< of the last step, where spikes are looked for
  GradScaler scaler = {};         ///< for the next step
};

/// What decides the next steps, besides parameters, moments and configuration.
struct OptimizerState {
  int64_t updates = 0;     ///< what corrects the moments' bias
  GradScaler scaler = {};  ///< used in fp16
  int64_t bad_in_row = 0;
  /// Where spikes are looked for: the windows as they lie in memory, and how many values they have taken.
  int64_t spike_steps = 0;
  std::vector<double> spike_losses = {}, spike_norms = {};

  bool operator==(const OptimizerState&) const = default;
};

/// How ranks share the optimizer's work (train.shard_optimizer, ZeRO-1): each keeps the moments of the elements it
/// owns, and updates those.   [Rajbhandari et al. 2020]   All of it is collective.
class ShardExchange {
 public:
  virtual ~ShardExchange() = default;
  virtual const ShardPlan& plan() const = 0;
  virtual int rank() const = 0;
  /// squared_norm holds the sum of the gradients' squares over the elements of this rank, own_blocks (as many as the
  /// plan says) its parts; both in the memory of the device. Then squared_norm is that of all elements.
  virtual void sum_norm(const double* own_blocks, double* squared_norm) = 0;
  enum class Values { operands, all };
  /// Every element of the values that ops read, or of the float32 (float64) values as well, is its owner's.
  virtual void share_values(Values what) = 0;
  /// `whole`, of the parameter's shape and type, holds this rank's elements: on rank 0 it then holds all.
  virtual void collect(Parameter& parameter, Tensor& whole) = 0;
};

/// Keeps the two moments of each parameter, and what decides a step, on the parameters' device: nothing here but read()
/// waits for it. Parameters belong to the caller and must outlive the optimizer.
class AdamW {
 public:
  /// Moments start at 0, moving averages at the values. A parameter that is not trainable is left out. Throws
  /// ConfigError if a pattern of optimizer.no_decay is the name of none.
  /// With `shards`, which must outlive this, only the elements that it gives to this rank are kept and updated.
  AdamW(const OptimizerSection& options, const std::vector<Parameter*>& parameters, ShardExchange* shards = nullptr);

  /// From now on (fp16) gradients are those of loss_scale() times the loss, and steps that overflow are left out.
  void scale_losses();
  /// What both losses are to be multiplied by on the way back, a scalar in float32; undefined: 1.
  const Tensor& loss_scale() const { return loss_scale_; }

  /// The learning rate of the next steps.
  void set_lr(double lr);
  /// Adds a micro-batch's share, scalars, to the losses of the step under way. Without any, they are 0.
  void add_losses(const Tensor& loss, const Tensor& reg_loss);
  /// Where the step's two sums lie side by side, in the memory of the device, for what adds up those of other ranks.
  double* running_losses();
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

  /// Waits for the device.
  OptimizerState state() const;
  /// Goes on from a checkpoint. A spike window of another length begins anew.
  void restore(const OptimizerState& state);
  void restore(int64_t updates, const GradScaler& scaler) { restore({.updates = updates, .scaler = scaler}); }

  bool has_ema() const { return options_.ema_decay > 0; }
  /// Exchanges all values with their moving averages, bit by bit; twice is nothing. Rounded copies are not refreshed.
  /// Collective where the state is sharded.
  void swap_with_ema();
  /// Where the state is sharded: from here on every rank has all values as their owners have them, until the next step.
  /// Collective. A save and whatever else reads values instead of operands needs it.
  void share_values();
  /// Averages begin at the present values.
  void reset_ema();

  /// What a checkpoint holds of one parameter, besides its value: of all its elements, or where the state is sharded of
  /// those from `begin` on that this rank owns, as one dimension.
  struct Moments {
    Parameter* parameter = nullptr;
    Tensor exp_avg, exp_avg_sq;
    Tensor ema;  ///< undefined: not kept
    bool decays = true;
    int64_t begin = 0;

    int64_t size() const { return exp_avg.size(); }
    bool whole() const { return size() == parameter->value.size(); }
    /// Those elements of a dense tensor of the parameter's shape.
    Tensor part_of(const Tensor& tensor) const;
  };
  /// One for each trainable parameter of which this rank owns anything.
  std::vector<Moments>& moments() { return moments_; }
  /// The trainable parameters.
  const std::vector<Parameter*>& parameters() const { return parameters_; }
  ShardExchange* shards() const { return shards_; }

 private:
  OptimizerSection options_;
  std::vector<Parameter*> parameters_;
  ShardExchange* shards_;
  std::vector<Moments> moments_;
  Tensor scalars_;     // a kernels::StepScalars
  Tensor loss_scale_;  // undefined where losses are not scaled
  Tensor scale_place_;
};

}  // namespace moeut
