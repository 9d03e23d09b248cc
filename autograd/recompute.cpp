#include "autograd/recompute.h"

#include "core/check.h"

namespace moeut {

namespace {

void backward(const Region& region, const Tensor& x_value, std::vector<Tensor> dy, InputGradients& in) {
  Tape tape;
  const Variable x = in.wanted(0) ? tape.leaf(x_value) : Variable(x_value);
  std::vector<std::pair<Variable, Tensor>> seeds;
  {
    std::vector<Variable> y = region(tape, x);
    require<ShapeError>(y.size() == dy.size(), "recompute: the region gave {} outputs at first, then {}", dy.size(),
                        y.size());
    for (size_t i = 0; i < y.size(); ++i) {
      if (dy[i].defined()) seeds.emplace_back(std::move(y[i]), std::move(dy[i]));
    }
  }
  tape.backward_from(std::move(seeds));
  if (in.wanted(0) && x.gradient().defined()) in.contribute(0, x.gradient());
}

}  // namespace

std::vector<Variable> record_region(Tape& tape, std::vector<Tensor> values, const Variable& x,
                                    const std::vector<Parameter*>& parameters, Region region) {
  std::vector<Variable> inputs = {x};
  // The gradients of parameters are written by the inner tape; as inputs they are counted, so that this tape knows
  // their last use.
  for (Parameter* parameter : parameters) inputs.push_back(tape.parameter(*parameter));
  return tape.record_joint(
      std::move(values), inputs,
      [region = std::move(region), x_value = x.value()](std::vector<Tensor> dy, InputGradients& in) {
        backward(region, x_value, std::move(dy), in);
      });
}

}  // namespace moeut
