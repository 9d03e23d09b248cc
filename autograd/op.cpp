#include "autograd/op.h"

#include <algorithm>

namespace moeut {

void fill(Tensor& tensor, double value) {
  if (tensor.device().is_meta()) return;
  Tensor host = Tensor::empty(tensor.shape(), tensor.dtype());
  on_floating(tensor.dtype(), [&]<class T>() { std::fill_n(host.data<T>(), host.size(), static_cast<T>(value)); });
  tensor.copy_from(host);
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
