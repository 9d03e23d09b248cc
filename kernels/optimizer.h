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
};

/// What is the same in all steps of a run.
struct AdamWRule {
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  double grad_clip = 0;  ///< largest norm; 0: no clipping
  bool scaled = false;   ///< gradients are those of scaler.scale times the loss
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
  int64_t refused = 0;  ///< number of the first step, from 1, that was not finite beyond help; no later one is made
  GradScaler scaler;
};
static_assert(sizeof(StepScalars) % sizeof(double) == 0);

/// Closes the books of a step: norm = √squared_norm / scale; it is made if losses and norm are finite. Gradients are
/// then multiplied by min(1, grad_clip / (norm + 1e-6)) / scale.
MOEUT_BOTH_SIDES inline void decide(StepScalars& s, const AdamWRule& rule) {
  const double scale = rule.scaled ? s.scaler.scale : 1;
  s.loss = s.running_loss;
  s.reg_loss = s.running_reg_loss;
  s.grad_norm = std::sqrt(s.squared_norm) / scale;
  s.running_loss = s.running_reg_loss = 0;
  s.steps += 1;
  const double sum = s.loss + s.reg_loss + s.grad_norm;
  const bool finite = sum - sum == 0;
  if (!finite && s.refused == 0) {
    const bool can_help = rule.scaled && !s.scaler.exhausted();
    s.skipped += can_help ? 1 : 0;
    s.refused = can_help ? 0 : s.steps;
  }
  s.updated = finite && s.refused == 0 ? 1 : 0;
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
  T keep, scale, beta1, beta2, rest1, rest2, step_size, root_correction, eps;

  MOEUT_BOTH_SIDES AdamWFactors(const AdamWRule& rule, const StepScalars& s)
      : keep(static_cast<T>(1 - s.lr * rule.weight_decay)),
        scale(static_cast<T>(s.gradient_scale)),
        beta1(static_cast<T>(rule.beta1)),
        beta2(static_cast<T>(rule.beta2)),
        rest1(static_cast<T>(1 - rule.beta1)),
        rest2(static_cast<T>(1 - rule.beta2)),
        step_size(static_cast<T>(s.step_size)),
        root_correction(static_cast<T>(s.root_correction)),
        eps(static_cast<T>(rule.eps)) {}
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
/// (1-β1) g;  v = β2 v + (1-β2) g²; value -= lr / (1-β1^t) · m / (√v / √(1-β2^t) + eps). Moments and value in T; scalar
/// factors in float64, rounded once.
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

/// Σ over all tensors of Σ x², squares and sums in float64 over fixed blocks of 16384 elements of each tensor, blocks
/// in order. `result` is in the memory of the device.
template <class T>
size_t squared_norm_workspace_bytes(Cpu, std::span<const NormTensor<T>> tensors);
template <class T>
size_t squared_norm_workspace_bytes(Cuda, std::span<const NormTensor<T>> tensors);
template <class T>
void squared_norm(Cpu, const Launch&, std::span<const NormTensor<T>> tensors, double* result);
template <class T>
void squared_norm(Cuda, const Launch&, std::span<const NormTensor<T>> tensors, double* result);

}  // namespace moeut::kernels
