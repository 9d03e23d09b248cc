#include "trainer/optimizer.h"

#include <cstddef>
#include <cstring>

#include "autograd/op.h"
#include "kernels/optimizer.h"

namespace moeut {
namespace {

using kernels::StepScalars;

kernels::StepScalars* raw(const Tensor& scalars) {
  return reinterpret_cast<StepScalars*>(scalars.data<double>());
}

Tensor on_host(const StepScalars& scalars) {
  Tensor host = Tensor::empty({sizeof(StepScalars) / sizeof(double)}, DType::f64);
  std::memcpy(host.data<double>(), &scalars, sizeof(scalars));
  return host;
}

StepScalars from_device(const Tensor& scalars) {
  StepScalars result;
  if (scalars.device().is_meta()) return result;
  const Tensor host = scalars.to(Device::cpu());
  std::memcpy(static_cast<void*>(&result), host.data<double>(), sizeof(result));
  return result;
}

kernels::AdamWRule rule_of(const OptimizerSection& o, bool scaled) {
  return {.beta1 = o.beta1,
          .beta2 = o.beta2,
          .eps = o.eps,
          .weight_decay = o.weight_decay,
          .grad_clip = o.grad_clip,
          .scaled = scaled};
}

template <class T>
std::vector<kernels::NormTensor<T>> gradients_of(const std::vector<AdamW::Moments>& moments) {
  std::vector<kernels::NormTensor<T>> tensors;
  for (const AdamW::Moments& m : moments) {
    require<ShapeError>(m.parameter->has_gradient, "AdamW: parameter {} has no gradient", m.parameter->name);
    tensors.push_back({m.parameter->gradient.data<T>(), m.parameter->gradient.size()});
  }
  return tensors;
}

template <class T>
std::vector<kernels::AdamWTensor<T>> tensors_of(const std::vector<AdamW::Moments>& moments, DecayScope decay) {
  std::vector<kernels::AdamWTensor<T>> tensors;
  for (const AdamW::Moments& m : moments) {
    const Parameter& p = *m.parameter;
    kernels::AdamWTensor<T> t{.value = p.value.data<T>(),
                              .gradient = p.gradient.data<T>(),
                              .exp_avg = m.exp_avg.data<T>(),
                              .exp_avg_sq = m.exp_avg_sq.data<T>(),
                              .size = p.value.size(),
                              .decay = decay == DecayScope::all || p.is_matrix};
    if (p.narrow.defined()) {
      t.narrow = p.narrow.raw();
      t.narrow_type = p.narrow.dtype();
    }
    tensors.push_back(t);
  }
  return tensors;
}

}  // namespace

AdamW::AdamW(const OptimizerSection& options, const std::vector<Parameter*>& parameters) : options_(options) {
  for (Parameter* p : parameters) {
    if (!p->trainable) continue;
    const Tensor& value = p->value;
    moments_.push_back({p, Tensor::zeros(value.shape(), value.dtype(), value.device()),
                        Tensor::zeros(value.shape(), value.dtype(), value.device())});
  }
  require<ShapeError>(!moments_.empty(), "AdamW: there is no parameter to train");
  const Device device = moments_.front().parameter->value.device();
  scalars_ = on_host({}).to(device);
  scale_place_ = Tensor::empty({1}, DType::f32, device);
  restore(0, {});
}

void AdamW::scale_losses() {
  loss_scale_ = scale_place_;
}

void AdamW::add_losses(const Tensor& loss, const Tensor& reg_loss) {
  on_device_floating(loss.device(), loss.dtype(), [&]<class T>(auto tag) {
    kernels::add_losses<T>(tag, Launch{}, loss.data<T>(), reg_loss.data<T>(), raw(scalars_));
  });
}

void AdamW::set_lr(double lr) {
  static_assert(offsetof(StepScalars, lr) == 0);
  scalars_.slice(0, 1).copy_from(Tensor::from<double>({lr}, {1}));
}

void AdamW::step() {
  const Tensor& first = moments_.front().parameter->value;
  const kernels::AdamWRule rule = rule_of(options_, loss_scale_.defined());
  on_device_floating(first.device(), first.dtype(), [&]<class T>(auto tag) {
    const auto gradients = gradients_of<T>(moments_);
    const Workspace workspace(first.device(), kernels::squared_norm_workspace_bytes<T>(tag, gradients));
    kernels::squared_norm<T>(tag, workspace, gradients, &raw(scalars_)->squared_norm);
    kernels::decide_update(tag, Launch{}, rule, raw(scalars_), scale_place_.data<float>());
    kernels::adamw<T>(tag, Launch{}, tensors_of<T>(moments_, options_.decay), rule, raw(scalars_));
  });
  for (const Moments& m : moments_) m.parameter->clear_gradient();
}

StepResult AdamW::read() const {
  const StepScalars s = from_device(scalars_);
  return {.loss = s.loss,
          .reg_loss = s.reg_loss,
          .grad_norm = s.grad_norm,
          .updated = s.updated == 1,
          .steps = s.steps,
          .updates = s.updates,
          .skipped = s.skipped,
          .refused = s.refused,
          .scaler = s.scaler};
}

void AdamW::restore(int64_t updates, const GradScaler& scaler) {
  StepScalars s;
  s.updates = updates;
  s.scaler = scaler;
  scalars_.copy_from(on_host(s));
  const Tensor scale = Tensor::from<float>(std::vector<float>{static_cast<float>(scaler.scale)}, {1});
  scale_place_.copy_from(scale);
}

}  // namespace moeut
