#include "autograd/ops/add.h"

#include "autograd/op.h"
#include "kernels/elementwise.h"

namespace moeut::ops {

Variable add(Tape& tape, const Variable& a, const Variable& b) {
  require<ShapeError>(a.shape() == b.shape(), "add: shapes {} and {} differ", a.shape().str(), b.shape().str());
  require_same_kind("add", {&a.value(), &b.value()});
  Tensor y = Tensor::empty(a.shape(), a.dtype(), a.device());
  on_device_number(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::add<T>(tag, Launch{}, y.size(), a.value().data<T>(), b.value().data<T>(), y.data<T>());
  });
  return tape.record(y, {a, b}, [](const Tensor& dy, InputGradients& in) {
    for (size_t i : {0, 1}) {
      if (in.wanted(i)) in.contribute(i, dy);
    }
  });
}

}  // namespace moeut::ops
