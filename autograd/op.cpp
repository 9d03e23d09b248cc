#include "autograd/op.h"

#include "kernels/elementwise.h"

namespace moeut {

void fill(Tensor& tensor, double value) {
  on_device_floating(tensor.device(), tensor.dtype(), [&]<class T>(auto tag) {
    kernels::fill<T>(tag, Launch{}, tensor.size(), static_cast<T>(value), tensor.data<T>());
  });
}

void cast_into(const Tensor& from, const Tensor& to, Mode mode) {
  const bool narrows = from.dtype() == DType::f32;
  require<ShapeError>(
      from.size() == to.size() && from.dtype() != to.dtype() && wide_of(from.dtype()) == wide_of(to.dtype()),
      "cast: no conversion from {} to {}", from.str(), to.str());
  on_device(from.device(), [&](auto tag) {
    on_number(narrows ? to.dtype() : from.dtype(), [&]<class T>() {
      if constexpr (kIsNarrow<T>) {
        if (narrows) {
          kernels::cast<float, T>(tag, Launch{}, from.size(), from.data<float>(), to.data<T>(), mode);
        } else {
          kernels::cast<T, float>(tag, Launch{}, from.size(), from.data<T>(), to.data<float>(), mode);
        }
      }
    });
  });
}

Tensor as_type(const Tensor& x, DType type) {
  if (x.dtype() == type) return x;
  Tensor y = Tensor::empty(x.shape(), type, x.device());
  cast_into(x, y, Mode::overwrite);
  return y;
}

void require_wide(const char* op, const char* operand, const Tensor& tensor, DType type) {
  require<ShapeError>(tensor.dtype() == wide_of(type), "{}: {} {} should be {} beside elements of type {}", op, operand,
                      tensor.str(), name_of(wide_of(type)), name_of(type));
}

void require_same_kind(const char* op, std::initializer_list<const Tensor*> operands) {
  const Tensor* first = nullptr;
  for (const Tensor* t : operands) {
    if (!t->defined()) continue;
    if (first == nullptr) first = t;
    require<BackendError>(t->device() == first->device(), "{}: operands live on different devices: {} and {}", op,
                          first->str(), t->str());
    require<ShapeError>(t->dtype() == first->dtype(), "{}: operands have different element types: {} and {}", op,
                        first->str(), t->str());
  }
}

}  // namespace moeut
