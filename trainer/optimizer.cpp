#include "trainer/optimizer.h"

#include <fnmatch.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "autograd/op.h"
#include "core/check.h"
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
          .scaled = scaled,
          .ema_decay = o.ema_decay,
          .max_bad_steps = o.max_bad_steps,
          .spike_z = o.spike_z,
          .spike_window = o.spike_window,
          .skip_spikes = o.spike_action == SpikeAction::skip};
}

template <class T>
std::vector<kernels::NormTensor<T>> gradients_of(const std::vector<AdamW::Moments>& moments) {
  std::vector<kernels::NormTensor<T>> tensors;
  for (const AdamW::Moments& m : moments) {
    require<ShapeError>(m.parameter->has_gradient, "AdamW: parameter {} has no gradient", m.parameter->name);
    tensors.push_back({m.parameter->gradient.data<T>() + m.begin, m.size()});
  }
  return tensors;
}

template <class T>
std::vector<kernels::AdamWTensor<T>> tensors_of(const std::vector<AdamW::Moments>& moments) {
  std::vector<kernels::AdamWTensor<T>> tensors;
  for (const AdamW::Moments& m : moments) {
    const Parameter& p = *m.parameter;
    kernels::AdamWTensor<T> t{.value = p.value.data<T>() + m.begin,
                              .gradient = p.gradient.data<T>() + m.begin,
                              .exp_avg = m.exp_avg.data<T>(),
                              .exp_avg_sq = m.exp_avg_sq.data<T>(),
                              .size = m.size(),
                              .decay = m.decays};
    if (m.ema.defined()) t.ema = m.ema.data<T>();
    if (p.narrow.defined()) {
      t.narrow = static_cast<char*>(p.narrow.raw()) + m.begin * static_cast<int64_t>(size_of(p.narrow.dtype()));
      t.narrow_type = p.narrow.dtype();
    }
    tensors.push_back(t);
  }
  return tensors;
}

/// The patterns of optimizer.no_decay.
std::vector<std::string> split_patterns(const std::string& text) {
  std::vector<std::string> patterns;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string pattern = text.substr(begin, end - begin);
    pattern.erase(0, pattern.find_first_not_of(' '));
    pattern.erase(pattern.find_last_not_of(' ') + 1);
    if (!pattern.empty()) patterns.push_back(std::move(pattern));
    begin = end + 1;
  }
  return patterns;
}

bool any_matches(const std::vector<std::string>& patterns, const Parameter& parameter) {
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), parameter.name.c_str(), 0) == 0;
  });
}

void check_patterns(const std::vector<std::string>& patterns, const std::vector<Parameter*>& parameters) {
  for (const std::string& pattern : patterns) {
    const bool any = std::any_of(parameters.begin(), parameters.end(),
                                 [&](const Parameter* p) { return any_matches({pattern}, *p); });
    require<ConfigError>(any, "optimizer.no_decay: no parameter is named '{}'; the first one is '{}'", pattern,
                         parameters.front()->name);
  }
}

/// What this rank keeps and updates.
std::vector<ParameterRange> own_ranges(const std::vector<Parameter*>& parameters, ShardExchange* shards) {
  std::vector<ParameterRange> ranges;
  if (shards != nullptr) {
    const auto own = shards->plan().ranges(shards->rank());
    ranges.assign(own.begin(), own.end());
  } else {
    for (Parameter* p : parameters) ranges.push_back({p, 0, p->value.size()});
  }
  return ranges;
}

NotedSteps noted(const kernels::StepList& list) {
  NotedSteps steps{.count = list.count, .last = {}};
  for (int64_t i = std::max<int64_t>(0, list.count - kernels::StepList::kKept); i < list.count; ++i)
    steps.last.push_back(list.steps[i % kernels::StepList::kKept]);
  return steps;
}

}  // namespace

AdamW::AdamW(const OptimizerSection& options, const std::vector<Parameter*>& parameters, ShardExchange* shards)
    : options_(options), shards_(shards) {
  for (Parameter* p : parameters)
    if (p->trainable) parameters_.push_back(p);
  require<ShapeError>(!parameters_.empty(), "AdamW: there is no parameter to train");
  const std::vector<std::string> no_decay = split_patterns(options.no_decay);
  check_patterns(no_decay, parameters_);
  for (const ParameterRange& range : own_ranges(parameters_, shards)) {
    Parameter& p = *range.parameter;
    const bool whole = range.size == p.value.size();
    const Shape shape = whole ? p.value.shape() : Shape{range.size};
    const auto zeros = [&] { return Tensor::zeros(shape, p.value.dtype(), p.value.device()); };
    const bool decays = (options.decay == DecayScope::all || p.is_matrix) && !any_matches(no_decay, p);
    moments_.push_back({&p, zeros(), zeros(), Tensor(), decays, range.begin});
    if (has_ema()) moments_.back().ema = Tensor::empty(shape, p.value.dtype(), p.value.device());
  }
  reset_ema();
  const Device device = parameters_.front()->value.device();
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

double* AdamW::running_losses() {
  static_assert(offsetof(StepScalars, running_reg_loss) == offsetof(StepScalars, running_loss) + sizeof(double));
  return &raw(scalars_)->running_loss;
}

void AdamW::set_lr(double lr) {
  static_assert(offsetof(StepScalars, lr) == 0);
  scalars_.slice(0, 1).copy_from(Tensor::from<double>({lr}, {1}));
}

void AdamW::step() {
  const Tensor& first = parameters_.front()->value;
  const kernels::AdamWRule rule = rule_of(options_, loss_scale_.defined());
  on_device_floating(first.device(), first.dtype(), [&]<class T>(auto tag) {
    const auto gradients = gradients_of<T>(moments_);
    const Workspace workspace(first.device(), kernels::squared_norm_workspace_bytes<T>(tag, gradients));
    kernels::squared_norm<T>(tag, workspace, gradients, &raw(scalars_)->squared_norm);
    if (shards_ != nullptr) {
      const auto* blocks = static_cast<const double*>(static_cast<const Launch&>(workspace).workspace);
      shards_->sum_norm(blocks, &raw(scalars_)->squared_norm);
    }
    kernels::decide_update(tag, Launch{}, rule, raw(scalars_), scale_place_.data<float>());
    kernels::adamw<T>(tag, Launch{}, tensors_of<T>(moments_), rule, raw(scalars_));
  });
  for (Parameter* p : parameters_) p->clear_gradient();
  if (shards_ != nullptr) shards_->share_values(ShardExchange::Values::operands);
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
          .bad = noted(s.bad),
          .refused = s.refused,
          .spikes = noted(s.spikes),
          .loss_z = s.loss_z,
          .norm_z = s.norm_z,
          .scaler = s.scaler};
}

OptimizerState AdamW::state() const {
  const StepScalars s = from_device(scalars_);
  OptimizerState state{.updates = s.updates, .scaler = s.scaler, .bad_in_row = s.bad_in_row};
  if (options_.spike_z > 0) {
    state.spike_steps = s.losses.seen;
    state.spike_losses.assign(s.losses.values, s.losses.values + options_.spike_window);
    state.spike_norms.assign(s.norms.values, s.norms.values + options_.spike_window);
  }
  return state;
}

void AdamW::restore(const OptimizerState& state) {
  StepScalars s;
  s.updates = state.updates;
  s.scaler = state.scaler;
  s.bad_in_row = state.bad_in_row;
  if (options_.spike_z > 0 && static_cast<int64_t>(state.spike_losses.size()) == options_.spike_window) {
    s.losses.seen = s.norms.seen = state.spike_steps;
    std::copy(state.spike_losses.begin(), state.spike_losses.end(), s.losses.values);
    std::copy(state.spike_norms.begin(), state.spike_norms.end(), s.norms.values);
  }
  scalars_.copy_from(on_host(s));
  const Tensor scale = Tensor::from<float>(std::vector<float>{static_cast<float>(state.scaler.scale)}, {1});
  scale_place_.copy_from(scale);
}

void AdamW::share_values() {
  if (shards_ != nullptr) shards_->share_values(ShardExchange::Values::all);
}

Tensor AdamW::Moments::part_of(const Tensor& tensor) const {
  return whole() ? tensor : tensor.reshape({tensor.size()}).slice(begin, size());
}

void AdamW::swap_with_ema() {
  for (Moments& m : moments_) {
    Tensor value = m.part_of(m.parameter->value);
    Tensor kept = Tensor::empty(value.shape(), value.dtype(), value.device());
    kept.copy_from(value);
    value.copy_from(m.ema);
    m.ema.copy_from(kept);
  }
  share_values();
}

void AdamW::reset_ema() {
  for (Moments& m : moments_)
    if (m.ema.defined()) m.ema.copy_from(m.part_of(m.parameter->value));
}

}  // namespace moeut
