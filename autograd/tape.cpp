#include "autograd/tape.h"

#include "autograd/op.h"
#include "core/check.h"
#include "kernels/elementwise.h"

namespace moeut {

GradientTarget GradientSlot::target() {
  if (parameter != nullptr) {
    const Mode mode = parameter->has_gradient ? Mode::accumulate : Mode::overwrite;
    parameter->has_gradient = true;
    return {parameter->gradient_storage(), mode};
  }
  if (!gradient.defined()) {
    gradient = Tensor::empty(shape, dtype, device);
    return {gradient, Mode::overwrite};
  }
  if (gradient.shared()) gradient = gradient.clone();
  return {gradient, Mode::accumulate};
}

void GradientSlot::contribute(const Tensor& dy) {
  if (parameter == nullptr && !gradient.defined()) {
    gradient = dy.reshape(shape);
    return;
  }
  const GradientTarget into = target();
  on_device_number(device, dtype, [&]<class T>(auto tag) {
    kernels::scale_copy<T>(tag, Launch{}, dy.size(), 1, dy.data<T>(), into.tensor.data<T>(), into.mode);
  });
}

bool InputGradients::repeats_an_earlier_input(size_t input) const {
  for (size_t earlier = 0; earlier < input; ++earlier) {
    if (slots_[earlier] == slots_[input]) return true;
  }
  return false;
}

GradientTarget InputGradients::target(size_t input) {
  const GradientSlot& slot = *slots_[input];
  if (!repeats_an_earlier_input(input)) return slots_[input]->target();
  further_.emplace_back(input, Tensor::empty(slot.shape, slot.dtype, slot.device));
  return {further_.back().second, Mode::overwrite};
}

void InputGradients::settle() {
  for (const auto& [input, gradient] : further_) slots_[input]->contribute(gradient);
  further_.clear();
}

Variable Tape::parameter(Parameter& p) {
  if (!recording_ || !p.trainable) return Variable(p.operand());
  auto& slot = parameters_[&p];
  if (!slot) {
    slot = std::make_shared<GradientSlot>();
    slot->shape = p.value.shape();
    slot->dtype = p.value.dtype();
    slot->device = p.value.device();
    slot->parameter = &p;
  }
  return Variable(p.operand(), slot);
}

Variable Tape::leaf(Tensor value) {
  if (!recording_) return Variable(std::move(value));
  auto slot = std::make_shared<GradientSlot>();
  slot->shape = value.shape();
  slot->dtype = value.dtype();
  slot->device = value.device();
  return Variable(std::move(value), std::move(slot));
}

Variable Tape::record(Tensor value, const std::vector<Variable>& inputs, Backward backward) {
  bool needed = false;
  for (const Variable& input : inputs) needed = needed || input.needs_gradient();
  if (!recording_ || !needed) return Variable(std::move(value));
  Node node;
  for (const Variable& input : inputs) {
    node.inputs.push_back(input.slot());
    if (input.slot()) ++input.slot()->pending;
  }
  node.output = std::make_shared<GradientSlot>();
  node.output->shape = value.shape();
  node.output->dtype = value.dtype();
  node.output->device = value.device();
  node.backward = std::move(backward);
  Variable result(std::move(value), node.output);
  nodes_.push_back(std::move(node));
  spent_ = false;
  return result;
}

void Tape::backward(std::initializer_list<Root> roots) {
  std::vector<std::pair<Variable, Tensor>> seeds;
  for (const Root& root : roots) {
    require<ShapeError>(root.value.defined() && root.value.value().size() == 1,
                        "backward: a root must be a scalar, not {}", root.value.value().str());
    if (!root.value.needs_gradient()) continue;
    Tensor seed = Tensor::empty(root.value.shape(), root.value.dtype(), root.value.device());
    if (root.scale.defined()) {
      require<ShapeError>(root.gradient == 1, "backward: a root has a gradient of {} or a scale, not both",
                          root.gradient);
      seed.copy_from(root.scale.reshape(root.value.shape()));
    } else {
      fill(seed, root.gradient);
    }
    seeds.emplace_back(root.value, std::move(seed));
  }
  backward_from(seeds);
}

void Tape::backward_from(const std::vector<std::pair<Variable, Tensor>>& seeds) {
  require<ShapeError>(!seeds.empty(), "backward: nothing here depends on a parameter{}",
                      recording_ ? "" : " (the tape is not recording)");
  require<ShapeError>(!spent_, "backward: this tape has run backward already; give all roots to one call");
  for (const auto& [value, seed] : seeds) {
    require<ShapeError>(value.needs_gradient() && seed.shape() == value.shape(),
                        "backward: {} cannot start from a gradient of shape {}", value.value().str(),
                        seed.shape().str());
    value.slot()->contribute(seed);
  }
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    run(node);
  }
  spent_ = true;
  parameters_.clear();
}

void Tape::run(Node& node) {
  const Tensor dy = std::exchange(node.output->gradient, Tensor());
  if (dy.defined()) {
    InputGradients inputs(node.inputs);
    node.backward(dy, inputs);
    inputs.settle();
  }
  node.backward = nullptr;
  for (auto& slot : node.inputs) {
    if (slot && --slot->pending == 0) finish(*slot);
  }
}

void Tape::finish(GradientSlot& slot) {
  if (slot.parameter == nullptr) return;
  if (slot.deferred) {
    slot.deferred->run(slot.target());
    slot.deferred.reset();
  }
  if (on_final_gradient) on_final_gradient(*slot.parameter);
}

}  // namespace moeut
