#include "autograd/ops/linear.h"

#include "autograd/op.h"
#include "autograd/ops/linear_passes.h"

namespace moeut::ops {

Variable linear(Tape& tape, const Variable& x, const Variable& weight, const Variable& bias, LinearOutput output) {
  check_linear("linear", x, weight, bias);
  auto extents = x.shape().extents();
  extents.back() = weight.shape()[0];
  const DType type = output == LinearOutput::wide ? wide_of(x.dtype()) : x.dtype();
  Tensor y = Tensor::empty(Shape(extents), type, x.device());
  linear_forward(x.value(), weight.value(), bias.value(), y);
  std::vector<Variable> inputs = {x, weight};
  if (bias.defined()) inputs.push_back(bias);
  return tape.record(
      y, inputs, [xv = x.value(), wv = weight.value(), biased = bias.defined()](const Tensor& dy, InputGradients& in) {
        const Tensor operand = as_operand(dy, xv.dtype());
        if (in.wanted(0)) linear_input_gradient(operand, wv, in.target(0));
        if (in.wanted(1)) linear_weight_gradient(operand, xv, in.target(1));
        if (biased && in.wanted(2)) linear_bias_gradient(dy, in.target(2));
      });
}

}  // namespace moeut::ops
