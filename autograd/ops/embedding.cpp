#include "autograd/ops/embedding.h"

#include "autograd/op.h"
#include "kernels/embedding.h"

namespace moeut::ops {

namespace {

/// Host tensors only: device tokens were checked before they were copied.
void check_tokens(const Tensor& token, int64_t vocabulary) {
  if (!token.device().is_cpu()) return;
  const int32_t* ids = token.data<int32_t>();
  for (int64_t i = 0; i < token.size(); ++i) {
    require<ShapeError>(ids[i] >= 0 && ids[i] < vocabulary,
                        "embedding: token {} at place {} is outside the vocabulary of {}", ids[i], i, vocabulary);
  }
}

}  // namespace

Variable embedding(Tape& tape, const Tensor& token, const Variable& table) {
  require<ShapeError>(table.shape().rank() == 2, "embedding: the table must be (V, D), not {}", table.shape().str());
  require<ShapeError>(token.dtype() == DType::i32, "embedding: tokens must be i32, not {}", token.str());
  check_tokens(token, table.shape()[0]);
  const int64_t vocabulary = table.shape()[0], width = table.shape()[1];
  auto extents = token.shape().extents();
  extents.push_back(width);
  Tensor y = Tensor::empty(Shape(extents), table.dtype(), table.device());
  on_device_floating(y.device(), y.dtype(), [&]<class T>(auto tag) {
    kernels::embedding_forward<T>(tag, Launch{}, token.size(), width, token.data<int32_t>(), table.value().data<T>(),
                                  y.data<T>());
  });
  return tape.record(y, {table}, [token, vocabulary, width](const Tensor& dy, InputGradients& in) {
    const GradientTarget dtable = in.target(0);
    on_device_floating(dy.device(), dy.dtype(), [&]<class T>(auto tag) {
      kernels::embedding_backward<T>(tag, Launch{}, token.size(), width, vocabulary, token.data<int32_t>(),
                                     dy.data<T>(), dtable.tensor.data<T>(), dtable.mode);
    });
  });
}

}  // namespace moeut::ops
