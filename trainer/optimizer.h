// AdamW with global-norm clipping, over all parameters of a model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "autograd/parameter.h"
#include "trainer/config.h"

namespace moeut {

/// Keeps the two moments of each parameter. Parameters belong to the caller and must outlive the optimizer.
class AdamW {
 public:
  /// Moments start at 0. A parameter that is not trainable is left out.
  AdamW(const OptimizerSection& options, const std::vector<Parameter*>& parameters);

  /// ‖g‖₂ over all parameters, in float64. Throws ShapeError naming a parameter that has no gradient.
  double gradient_norm() const;
  /// One update from `gradient_scale` times the gradients, whose norm that makes `gradient_norm`, clipped by min(1,
  /// grad_clip / (norm + 1e-6)); then forgets them.
  void update(double lr, double gradient_norm, double gradient_scale = 1);
  /// Forgets the gradients without an update.
  void discard_gradients();

  /// Updates made so far: AdamW's t, which corrects the moments' bias.
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

  /// What a checkpoint holds of one parameter, besides its value.
  struct Moments {
    Parameter* parameter = nullptr;
    Tensor exp_avg, exp_avg_sq;
  };
  std::vector<Moments>& moments() { return moments_; }

 private:
  OptimizerSection options_;
  std::vector<Moments> moments_;
  int64_t updates_ = 0;
};

}  // namespace moeut
