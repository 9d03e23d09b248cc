#include "trainer/optimizer.h"

#include <algorithm>
#include <cmath>

#include "autograd/op.h"
#include "kernels/optimizer.h"

namespace moeut {

AdamW::AdamW(const OptimizerSection& options, const std::vector<Parameter*>& parameters) : options_(options) {
  for (Parameter* p : parameters) {
    if (!p->trainable) continue;
    const Tensor& value = p->value;
    moments_.push_back({p, Tensor::zeros(value.shape(), value.dtype(), value.device()),
                        Tensor::zeros(value.shape(), value.dtype(), value.device())});
  }
  require<ShapeError>(!moments_.empty(), "AdamW: there is no parameter to train");
}

double AdamW::gradient_norm() const {
  const Tensor& first = moments_.front().parameter->value;
  double squared = 0;
  on_device_floating(first.device(), first.dtype(), [&]<class T>(auto tag) {
    std::vector<kernels::NormTensor<T>> tensors;
    for (const Moments& m : moments_) {
      require<ShapeError>(m.parameter->has_gradient, "AdamW: parameter {} has no gradient", m.parameter->name);
      tensors.push_back({m.parameter->gradient.data<T>(), m.parameter->gradient.size()});
    }
    const Workspace workspace(first.device(), kernels::squared_norm_workspace_bytes<T>(tag, tensors));
    kernels::squared_norm<T>(tag, workspace, tensors, &squared);
  });
  return std::sqrt(squared);
}

void AdamW::update(double lr, double gradient_norm, double gradient_scale) {
  const double clip = options_.grad_clip;
  const double clipped = clip > 0 ? std::min(1.0, clip / (gradient_norm + 1e-6)) : 1.0;
  const kernels::AdamWStep step{.lr = lr,
                                .beta1 = options_.beta1,
                                .beta2 = options_.beta2,
                                .eps = options_.eps,
                                .weight_decay = options_.weight_decay,
                                .step = ++updates_,
                                .gradient_scale = clipped * gradient_scale};
  const Tensor& first = moments_.front().parameter->value;
  on_device_floating(first.device(), first.dtype(), [&]<class T>(auto tag) {
    std::vector<kernels::AdamWTensor<T>> tensors;
    for (const Moments& m : moments_) {
      Parameter& p = *m.parameter;
      tensors.push_back({p.value.data<T>(), p.gradient.data<T>(), m.exp_avg.data<T>(), m.exp_avg_sq.data<T>(),
                         p.value.size(), options_.decay == DecayScope::all || p.is_matrix});
    }
    kernels::adamw<T>(tag, Launch{}, tensors, &step);
  });
  for (const Moments& m : moments_) m.parameter->refresh_narrow();
  discard_gradients();
}

void AdamW::discard_gradients() {
  for (const Moments& m : moments_) m.parameter->clear_gradient();
}

}  // namespace moeut
