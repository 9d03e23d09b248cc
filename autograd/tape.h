// The tape: what was computed, in order; backward walks it in reverse.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "autograd/variable.h"

namespace moeut {

/// The input gradients of one node, as its backward function sees them.
class InputGradients {
 public:
  explicit InputGradients(std::vector<std::shared_ptr<GradientSlot>>& slots) : slots_(slots) {}

  /// False for a constant input: its gradient need not be computed.
  bool wanted(size_t input) const { return slots_[input] != nullptr; }
  /// Where the gradient goes. Targets of several inputs may be held at once: a value that is more than one input of the
  /// node gets memory of its own for each further one, added up by settle().
  GradientTarget target(size_t input);
  void contribute(size_t input, const Tensor& dy) { slots_[input]->contribute(dy); }
  /// Called by the tape after the node's backward.
  void settle();

  /// True if the input is a parameter, so that its gradient may wait for the last use.
  bool deferrable(size_t input) const { return slots_[input]->parameter != nullptr; }
  /// The waiting work of the parameter, made on first call.
  template <class Work>
  Work& deferred(size_t input) {
    auto& work = slots_[input]->deferred;
    if (!work) work = std::make_unique<Work>();
    return static_cast<Work&>(*work);
  }

 private:
  bool repeats_an_earlier_input(size_t input) const;

  std::vector<std::shared_ptr<GradientSlot>>& slots_;
  std::vector<std::pair<size_t, Tensor>> further_;
};

/// Records operations and runs them backward once.
/// Nodes lie in execution order; a node frees what it saved as soon as it has run.
class Tape {
 public:
  /// dy: the gradient of the node's output; may be moved from or shared, never written.
  using Backward = std::function<void(const Tensor& dy, InputGradients& inputs)>;
  /// The same for several outputs. dy[i] is undefined if nothing depends on output i; at least one is defined.
  using JointBackward = std::function<void(std::vector<Tensor> dy, InputGradients& inputs)>;

  enum class Recording { on, off };
  /// With recording off values are computed and nothing is kept (evaluation, generation).
  explicit Tape(Recording recording = Recording::on) : recording_(recording == Recording::on) {}
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  bool recording() const { return recording_; }

  /// A use of a parameter's value; all uses on this tape share one gradient.
  Variable parameter(Parameter& parameter);
  /// A value whose gradient the caller reads after backward.
  Variable leaf(Tensor value);

  /// The result of an operation. `backward` is kept only if recording and some input needs a gradient.
  Variable record(Tensor value, const std::vector<Variable>& inputs, Backward backward);
  /// The results of an operation that has several.
  std::vector<Variable> record_joint(std::vector<Tensor> values, const std::vector<Variable>& inputs,
                                     JointBackward backward);

  /// A scalar output and the gradient of the whole with respect to it.
  struct Root {
    Variable value;
    double gradient = 1;
    Tensor scale = {};  ///< the gradient instead, a scalar of the value's type on its device
  };
  /// Runs every node once, last to first. Throws ShapeError if a root is not a scalar, if none depends on anything that
  /// needs a gradient, or if the nodes have run already.
  void backward(std::initializer_list<Root> roots);
  /// The same from given output gradients (same shapes as the values). What is moved in is freed as soon as it is used.
  void backward_from(std::vector<std::pair<Variable, Tensor>> seeds);

  /// Called when a parameter's gradient is complete: after the last of its uses has run.
  std::function<void(Parameter&)> on_final_gradient;

 private:
  struct Node {
    std::vector<std::shared_ptr<GradientSlot>> inputs, outputs;
    JointBackward backward;
  };
  void run(Node& node);
  void finish(GradientSlot& slot);

  bool recording_;
  bool spent_ = false;  ///< the recorded nodes have run
  std::vector<Node> nodes_;
  std::unordered_map<Parameter*, std::shared_ptr<GradientSlot>> parameters_;
};

}  // namespace moeut
