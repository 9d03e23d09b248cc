#include "autograd/ops/append_time.h"

#include "autograd/op.h"
#include "kernels/elementwise.h"

namespace moeut::ops {

namespace {

/// count times of every sequence: to[b, to_at + t] = from[b, from_at + t].
void copy_rows(const Tensor& from, int64_t from_at, const Tensor& to, int64_t to_at, int64_t count, Mode mode) {
  const int64_t width = from.shape()[2], from_time = from.shape()[1], to_time = to.shape()[1];
  on_device_number(from.device(), from.dtype(), [&]<class T>(auto tag) {
    for (int64_t b = 0; b < from.shape()[0]; ++b) {
      kernels::scale_copy<T>(tag, Launch{}, count * width, 1, from.data<T>() + (b * from_time + from_at) * width,
                             to.data<T>() + (b * to_time + to_at) * width, mode);
    }
  });
}

}  // namespace

void copy_time(const Tensor& from, const Tensor& to, int64_t at) {
  const Shape &f = from.shape(), &t = to.shape();
  require<ShapeError>(f.rank() == 3 && t.rank() == 3 && f[0] == t[0] && f[2] == t[2] && at >= 0 && at + f[1] <= t[1],
                      "copy_time: {} does not fit into {} at {}", f.str("B T W"), t.str("B T W"), at);
  copy_rows(from, 0, to, at, f[1], Mode::overwrite);
}

Variable append_time(Tape& tape, const Tensor& past, const Variable& x) {
  const Shape &s = x.shape(), &p = past.shape();
  require<ShapeError>(s.rank() == 3 && p.rank() == 3 && p[0] == s[0] && p[2] == s[2],
                      "append_time: {} does not continue {}", s.str("B T W"), p.str("B T W"));
  require_same_kind("append_time", {&past, &x.value()});
  const int64_t before = p[1];
  Tensor y = Tensor::empty({s[0], before + s[1], s[2]}, x.dtype(), x.device());
  copy_time(past, y, 0);
  copy_time(x.value(), y, before);
  return tape.record(y, {x}, [before](const Tensor& dy, InputGradients& in) {
    const GradientTarget dx = in.target(0);
    copy_rows(dy, before, dx.tensor, 0, dx.tensor.shape()[1], dx.mode);
  });
}

}  // namespace moeut::ops
