// AdamW over all parameters, the global gradient norm, and the decision whether a step may be made.   [Loshchilov &
// Hutter 2019; rule and order as PyTorch's AdamW]
// All that decides a step stays in the memory of the device, so that the host can queue the next step without waiting:
// squared_norm, decide_update and adamw are launched one after the other.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"
#include "kernels/grad_scaler.h"

namespace moeut::kernels {

/// Elements that one block of the norm and of the update covers, counted from the beginning of each tensor.
constexpr int64_t kOptimizerBlock = 16384;

/// One parameter, `size` dense elements each. `narrow`, if not null, gets a rounded copy of the new value.
template <class T>
struct AdamWTensor {
  T* value = nullptr;
  const T* gradient = nullptr;
  T* exp_avg = nullptr;
  T* exp_avg_sq = nullptr;
  int64_t size = 0;
  bool decay = true;
  void* narrow = nullptr;
  DType narrow_type = DType::bf16;
  T* ema = nullptr;  ///< exponential moving average of the values, if not null
};

/// What is the same in all steps of a run.
struct AdamWRule {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double grad_clip = 0;  ///< largest norm; 0: no clipping
  bool scaled = false;   ///< gradients are those of scaler.scale times the loss
  double ema_decay = 0;  ///< of AdamWTensor::ema
  int64_t max_bad_steps = 1;
  double spike_z = 0;        ///< 0: not looked for
  int64_t spike_window = 2;  ///< at most SpikeWindow::kMost
  bool skip_spikes = false;
};

/// The last values of a number, for how unusual the next one is.   [llm.c, outlier detector]
struct SpikeWindow {
  static constexpr int64_t kMost = 512;
  double values[kMost] = {};
  int64_t seen = 0;

  /// Takes x; (x - mean) / standard deviation over the last `window` values, x among them; 0 until there are as many.
  MOEUT_BOTH_SIDES double take(double x, int64_t window) {
    values[seen % window] = x;
    seen += 1;
    if (seen < window) return 0;
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < window; ++i) sum += values[i];
    const double mean = sum / static_cast<double>(window);
    for (int64_t i = 0; i < window; ++i) squares += (values[i] - mean) * (values[i] - mean);
    return squares > 0 ? (x - mean) / std::sqrt(squares / static_cast<double>(window)) : 0;
  }
};

/// The numbers, from 1, of the last steps to which something has happened, and how many there were in all.
struct StepList {
  static constexpr int64_t kKept = 32;
  int64_t steps[kKept] = {};
  int64_t count = 0;

  MOEUT_BOTH_SIDES void add(int64_t step) { steps[count++ % kKept] = step; }
};

/// One step as the device knows it.
struct StepScalars {
  double lr = 0;                                  ///< written by the host before the step; all else by kernels
  double running_loss = 0, running_reg_loss = 0;  ///< of the step under way
  double squared_norm = 0;                        ///< of its gradients as they are
  // The last step decided.
  double loss = 0, reg_loss = 0, grad_norm = 0;
  double gradient_scale = 0, step_size = 0, root_correction = 1;
  int64_t updated = 0;  ///< 1 or 0
  // Counts.
  int64_t steps = 0;    ///< decided
  int64_t updates = 0;  ///< made: AdamW's t
  int64_t skipped = 0;  ///< left out for an overflow that a smaller loss scale may avoid
  StepList bad;         ///< left out because they were not finite beyond help
  int64_t bad_in_row = 0;
  /// Number of the first of max_bad_steps bad steps in a row, 0 if there were not so many; no later update is made.
  int64_t refused = 0;
  StepList spikes;  ///< with an unusual loss or gradient norm
  double loss_z = 0, norm_z = 0;
  SpikeWindow losses, norms;
  GradScaler scaler;
};
static_assert(sizeof(StepScalars) % sizeof(double) == 0);

/// Of a finite step: whether its update may be made.
MOEUT_BOTH_SIDES inline bool passes_spikes(StepScalars& s, const AdamWRule& rule) {
  if (!(rule.spike_z > 0)) return true;
  s.loss_z = s.losses.take(s.loss, rule.spike_window);
  s.norm_z = s.norms.take(s.grad_norm, rule.spike_window);
  if (s.loss_z <= rule.spike_z && s.norm_z <= rule.spike_z) return true;
  s.spikes.add(s.steps);
  return !rule.skip_spikes;
}

/// Of a step that is not finite.
MOEUT_BOTH_SIDES inline void note_bad(StepScalars& s, const AdamWRule& rule) {
  if (rule.scaled && !s.scaler.exhausted()) {
    s.skipped += 1;
    return;
  }
  s.bad.add(s.steps);
  s.bad_in_row += 1;
  if (s.bad_in_row < rule.max_bad_steps) return;
  const int64_t first = s.steps - s.bad_in_row + 1;
  s.refused = first > 1 ? first : 1;  // those before may be of the process that was resumed
}

/// Closes the books of a step: norm = √squared_norm / scale; it is made if losses and norm are finite and no spike that
/// is to be left out. Gradients are then multiplied by min(1, grad_clip / (norm + 1e-6)) / scale.
MOEUT_BOTH_SIDES inline void decide(StepScalars& s, const AdamWRule& rule) {
  const double scale = rule.scaled ? s.scaler.scale : 1;
  s.loss = s.running_loss;
  s.reg_loss = s.running_reg_loss;
  s.grad_norm = std::sqrt(s.squared_norm) / scale;
  s.running_loss = s.running_reg_loss = 0;
  s.steps += 1;
  const double sum = s.loss + s.reg_loss + s.grad_norm;
  const bool finite = sum - sum == 0;
  s.updated = 0;
  if (s.refused != 0) return;
  if (finite) {
    s.bad_in_row = 0;
    s.updated = passes_spikes(s, rule) ? 1 : 0;
  } else {
    note_bad(s, rule);
  }
  if (rule.scaled) s.scaler.take(finite);
  if (s.updated == 0) return;
  s.updates += 1;
  const double clip = rule.grad_clip > 0 ? rule.grad_clip / (s.grad_norm + 1e-6) : 1;
  s.gradient_scale = (clip < 1 ? clip : 1) / scale;
  s.step_size = s.lr / (1 - std::pow(rule.beta1, static_cast<double>(s.updates)));
  s.root_correction = std::sqrt(1 - std::pow(rule.beta2, static_cast<double>(s.updates)));
}

/// The scalar factors of an update, rounded once.
template <class T>
struct AdamWFactors {
  T keep, scale, beta1, beta2, rest1, rest2, step_size, root_correction, eps, ema_decay, ema_rest;

  MOEUT_BOTH_SIDES AdamWFactors(const AdamWRule& rule, const StepScalars& s)
      : keep(static_cast<T>(1 - s.lr * rule.weight_decay)),
        scale(static_cast<T>(s.gradient_scale)),
        beta1(static_cast<T>(rule.beta1)),
        beta2(static_cast<T>(rule.beta2)),
        rest1(static_cast<T>(1 - rule.beta1)),
        rest2(static_cast<T>(1 - rule.beta2)),
        step_size(static_cast<T>(s.step_size)),
        root_correction(static_cast<T>(s.root_correction)),
        eps(static_cast<T>(rule.eps)),
        ema_decay(static_cast<T>(rule.ema_decay)),
        ema_rest(static_cast<T>(1 - rule.ema_decay)) {}
};

/// running_loss += loss;  running_reg_loss += reg_loss.
template <class T>
void add_losses(Cpu, const Launch&, const T* loss, const T* reg_loss, StepScalars* scalars);
template <class T>
void add_losses(Cuda, const Launch&, const T* loss, const T* reg_loss, StepScalars* scalars);

/// decide(), and then *loss_scale = the scale of the next step's loss.
void decide_update(Cpu, const Launch&, const AdamWRule& rule, StepScalars* scalars, float* loss_scale);
void decide_update(Cuda, const Launch&, const AdamWRule& rule, StepScalars* scalars, float* loss_scale);

/// If scalars->updated: g = gradient_scale · gradient;  value *= 1 - lr · weight_decay (where decay);  m = β1 m +
/// (1-β1) g;  v = β2 v + (1-β2) g²; value -= lr / (1-β1^t) · m / (√v / √(1-β2^t) + eps);  ema = d ema + (1-d)
/// value, d = ema_decay. Moments, value and ema in T; scalar factors in float64, rounded once.
template <class T>
void adamw(Cpu, const Launch&, std::span<const AdamWTensor<T>> tensors, const AdamWRule& rule,
           const StepScalars* scalars);
template <class T>
void adamw(Cuda, const Launch&, std::span<const AdamWTensor<T>> tensors, const AdamWRule& rule,
           const StepScalars* scalars);

/// A dense gradient and its number of elements.
template <class T>
struct NormTensor {
  const T* data = nullptr;
  int64_t size = 0;
};

/// Σ over all tensors of Σ x², squares and sums in float64 over blocks of kOptimizerBlock elements of each tensor,
/// blocks in order. `result` is in the memory of the device. The workspace begins with the blocks' sums afterwards.
template <class T>
size_t squared_norm_workspace_bytes(Cpu, std::span<const NormTensor<T>> tensors);
template <class T>
size_t squared_norm_workspace_bytes(Cuda, std::span<const NormTensor<T>> tensors);
template <class T>
void squared_norm(Cpu, const Launch&, std::span<const NormTensor<T>> tensors, double* result);
template <class T>
void squared_norm(Cuda, const Launch&, std::span<const NormTensor<T>> tensors, double* result);

}  // namespace moeut::kernels
