// A dense projection with its parameters.
#pragma once

#include "autograd/ops/linear.h"
#include "autograd/ops/linear_cross_entropy.h"
#include "layers/module.h"

namespace moeut {

/// y = x · Wᵀ (+ b).   weight: (out, in)   bias: (out).
class Linear : public Module {
 public:
  Linear(const std::string& name, int64_t in, int64_t out, bool biased, const ModuleOptions& options)
      : weight(make_parameter(name + ".weight", {out, in}, options)) {
    if (biased) bias = make_parameter(name + ".bias", {out}, options, false);
  }
  Variable forward(Tape& tape, const Variable& x) {
    return ops::linear(tape, x, tape.parameter(weight), bias.value.defined() ? tape.parameter(bias) : Variable());
  }
  /// The loss of y as logits, which are never there all at once.
  ops::CrossEntropy cross_entropy(Tape& tape, const Variable& x, const Tensor& target,
                                  const ops::LinearCrossEntropyOptions& options) {
    return ops::linear_cross_entropy(tape, x, tape.parameter(weight),
                                     bias.value.defined() ? tape.parameter(bias) : Variable(), target, options);
  }
  void visit_parameters(const ParameterVisitor& visit) override {
    visit(weight);
    if (bias.value.defined()) visit(bias);
  }

  Parameter weight, bias;
};

}  // namespace moeut
