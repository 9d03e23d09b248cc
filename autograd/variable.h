// A value in a computation, and the place where its gradient gathers.
#pragma once

#include <memory>
#include <utility>

#include "autograd/parameter.h"
#include "core/tensor.h"

namespace moeut {

/// Where a kernel writes an input's gradient, and how.
struct GradientTarget {
  Tensor tensor;
  Mode mode = Mode::overwrite;
};

/// Gradient work of a parameter that waits until its last use in this backward pass has been reached: the repeats of a
/// shared layer hand their parts over and the sum is computed in one go.
class DeferredGradient {
 public:
  virtual ~DeferredGradient() = default;
  virtual void run(const GradientTarget& target) = 0;
};

/// The gradient of one value; shared by the Variable and the tape's nodes.
struct GradientSlot {
  Shape shape;
  DType dtype = DType::f32;
  Device device;
  Parameter* parameter = nullptr;  ///< set for a parameter's leaf: the gradient lives there
  Tensor gradient;                 ///< undefined until the first contribution
  int pending = 0;                 ///< nodes that use the value and have not run backward yet
  std::unique_ptr<DeferredGradient> deferred;

  /// Memory for one contribution: overwrite for the first, accumulate after it. A buffer that something else still
  /// reads is copied first.
  GradientTarget target();
  /// Contributes `dy` itself, without a copy where nothing is there yet.
  void contribute(const Tensor& dy);
};

class Variable {
 public:
  Variable() = default;
  /// A constant: no gradient flows to it.
  explicit Variable(Tensor value) : value_(std::move(value)) {}
  Variable(Tensor value, std::shared_ptr<GradientSlot> slot) : value_(std::move(value)), slot_(std::move(slot)) {}

  bool defined() const { return value_.defined(); }
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  DType dtype() const { return value_.dtype(); }
  Device device() const { return value_.device(); }

  bool needs_gradient() const { return slot_ != nullptr; }
  const std::shared_ptr<GradientSlot>& slot() const { return slot_; }
  /// The gradient of a leaf made with Tape::leaf, after backward.
  const Tensor& gradient() const { return slot_->gradient; }

 private:
  Tensor value_;
  std::shared_ptr<GradientSlot> slot_;
};

}  // namespace moeut
