#include "autograd/ops/rope.h"

#include "autograd/op.h"
#include "kernels/rope.h"

namespace moeut::ops {

namespace {

void rotate(const Tensor& x, const Tensor& y, const RopeOptions& o, bool inverse, Mode mode) {
  const int64_t width = x.shape()[2];
  on_device_number(x.device(), x.dtype(), [&]<class T>(auto tag) {
    kernels::rope<T>(tag, Launch{},
                     {.batch = x.shape()[0],
                      .time = x.shape()[1],
                      .heads = o.heads,
                      .head_dim = width / o.heads,
                      .n_rotate = o.n_rotate,
                      .first_position = o.first_position,
                      .base = o.base,
                      .scale = static_cast<Wide<T>>(o.scale),
                      .inverse = inverse,
                      .x = x.data<T>(),
                      .ldx = width,
                      .y = y.data<T>(),
                      .ldy = width,
                      .mode = mode});
  });
}

}  // namespace

Variable rope(Tape& tape, const Variable& x, const RopeOptions& options) {
  require<ShapeError>(x.shape().rank() == 3 && options.heads > 0 && x.shape()[2] % options.heads == 0,
                      "rope: {} does not split into {} heads", x.shape().str("B T HP"), options.heads);
  require<ShapeError>(
      options.n_rotate % 2 == 0 && options.n_rotate >= 0 && options.n_rotate <= x.shape()[2] / options.heads,
      "rope: {} rotated dims of {} a head (must be even)", options.n_rotate, x.shape()[2] / options.heads);
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  rotate(x.value(), y, options, false, Mode::overwrite);
  return tape.record(y, {x}, [options](const Tensor& dy, InputGradients& in) {
    const GradientTarget dx = in.target(0);
    rotate(dy, dx.tensor, options, true, dx.mode);
  });
}

}  // namespace moeut::ops
