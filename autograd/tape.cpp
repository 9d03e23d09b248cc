#include "autograd/tape.h"

#include "autograd/op.h"
#include "core/check.h"
#include "kernels/elementwise.h"

namespace moeut {

namespace {

std::shared_ptr<GradientSlot> slot_for(const Tensor& value) {
  auto slot = std::make_shared<GradientSlot>();
  slot->shape = value.shape();
  slot->dtype = value.dtype();
  slot->device = value.device();
  return slot;
}

}  // namespace

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
    slot = slot_for(p.value);
    slot->parameter = &p;
  }
  return Variable(p.operand(), slot);
}

Variable Tape::leaf(Tensor value) {
  if (!recording_) return Variable(std::move(value));
  auto slot = slot_for(value);
  return Variable(std::move(value), std::move(slot));
}

Variable Tape::record(Tensor value, const std::vector<Variable>& inputs, Backward backward) {
  return record_joint(
             {std::move(value)}, inputs,
             [run = std::move(backward)](const std::vector<Tensor>& dy, InputGradients& in) { run(dy.front(), in); })
      .front();
}

std::vector<Variable> Tape::record_joint(std::vector<Tensor> values, const std::vector<Variable>& inputs,
                                         JointBackward backward) {
  bool needed = false;
  for (const Variable& input : inputs) needed = needed || input.needs_gradient();
  std::vector<Variable> results;
  if (!recording_ || !needed) {
    for (Tensor& value : values) results.emplace_back(std::move(value));
    return results;
  }
  Node node;
  for (const Variable& input : inputs) {
    node.inputs.push_back(input.slot());
    if (input.slot()) ++input.slot()->pending;
  }
  for (Tensor& value : values) {
    node.outputs.push_back(slot_for(value));
    results.emplace_back(std::move(value), node.outputs.back());
  }
  node.backward = std::move(backward);
  nodes_.push_back(std::move(node));
  spent_ = false;
  return results;
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
  backward_from(std::move(seeds));
}

void Tape::backward_from(std::vector<std::pair<Variable, Tensor>> seeds) {
  require<ShapeError>(!seeds.empty(), "backward: nothing here depends on a parameter{}",
                      recording_ ? "" : " (the tape is not recording)");
  require<ShapeError>(!spent_, "backward: this tape has run backward already; give all roots to one call");
  for (const auto& [value, seed] : seeds) {
    require<ShapeError>(value.needs_gradient() && seed.shape() == value.shape(),
                        "backward: {} cannot start from a gradient of shape {}", value.value().str(),
                        seed.shape().str());
    value.slot()->contribute(seed);
  }
  seeds.clear();
  while (!nodes_.empty()) {
    Node node = std::move(nodes_.back());
    nodes_.pop_back();
    run(node);
  }
  spent_ = true;
  parameters_.clear();
}

void Tape::run(Node& node) {
  std::vector<Tensor> dy;
  bool reached = false;
  for (const auto& output : node.outputs) {
    dy.push_back(std::exchange(output->gradient, Tensor()));
    reached = reached || dy.back().defined();
  }
  if (reached) {
    InputGradients inputs(node.inputs);
    node.backward(std::move(dy), inputs);
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
