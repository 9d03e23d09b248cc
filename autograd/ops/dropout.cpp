#include "autograd/ops/dropout.h"

#include "autograd/op.h"
#include "kernels/elementwise.h"

namespace moeut::ops {

namespace {

void apply(const Tensor& x, const Tensor& y, double p, const DropoutSource& source, Mode mode) {
  const int64_t sequences = x.shape()[0];
  on_device_number(x.device(), x.dtype(), [&]<class T>(auto tag) {
    kernels::dropout<T>(tag, Launch{},
                        {.sequences = sequences,
                         .n = x.size() / sequences,
                         .p = p,
                         .rng = static_cast<const RngState*>(source.state.raw()),
                         .site = source.site,
                         .x = x.data<T>(),
                         .y = y.data<T>(),
                         .mode = mode});
  });
}

}  // namespace

Variable dropout(Tape& tape, const Variable& x, double p, const DropoutSource& source) {
  if (p == 0) return x;
  require<ShapeError>(p > 0 && p < 1, "dropout: probability {} is outside [0, 1)", p);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  apply(x.value(), y, p, source, Mode::overwrite);
  return tape.record(y, {x}, [p, source](const Tensor& dy, InputGradients& in) {
    const GradientTarget dx = in.target(0);
    apply(dy, dx.tensor, p, source, dx.mode);
  });
}

}  // namespace moeut::ops
