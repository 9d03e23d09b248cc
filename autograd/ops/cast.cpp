#include "autograd/ops/cast.h"

#include "autograd/op.h"

namespace moeut::ops {

Variable cast(Tape& tape, const Variable& x, DType type) {
  if (x.dtype() == type) return x;
  return tape.record(as_type(x.value(), type), {x}, [](const Tensor& dy, InputGradients& in) {
    const GradientTarget dx = in.target(0);
    cast_into(dy, dx.tensor, dx.mode);
  });
}

}  // namespace moeut::ops
