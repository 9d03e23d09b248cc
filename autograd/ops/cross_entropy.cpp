#include "autograd/ops/cross_entropy.h"

#include "autograd/op.h"
#include "kernels/cross_entropy.h"

namespace moeut::ops {

void check_targets(const char* op, const Tensor& target, int64_t rows, int64_t vocabulary, Device device) {
  require<ShapeError>(target.dtype() == DType::i32 && target.size() == rows,
                      "{}: targets {} do not fit {} rows of logits", op, target.str(), rows);
  require<BackendError>(target.device() == device, "{}: targets {} and logits on {} live on different devices", op,
                        target.str(), device.str());
  if (!target.device().is_cpu()) return;
  const int32_t* ids = target.data<int32_t>();
  for (int64_t i = 0; i < rows; ++i) {
    require<ShapeError>(ids[i] < vocabulary, "{}: target {} at place {} is outside the vocabulary of {}", op, ids[i], i,
                        vocabulary);
  }
}

CrossEntropy cross_entropy(Tape& tape, const Variable& logits, const Tensor& target, double scale) {
  const int64_t rows = logits.shape().rows(), vocabulary = logits.shape().row_size();
  check_targets("cross_entropy", target, rows, vocabulary, logits.device());
  const DType wide = wide_of(logits.dtype());
  const Tensor lse = Tensor::empty({rows}, wide, logits.device());
  const Tensor row_loss = Tensor::empty({rows}, wide, logits.device());
  Tensor loss = Tensor::empty({1}, wide, logits.device());
  on_device_number(logits.device(), logits.dtype(), [&]<class T>(auto tag) {
    kernels::cross_entropy_forward<T>(tag, Launch{},
                                      {.rows = rows,
                                       .vocabulary = vocabulary,
                                       .logits = logits.value().data<T>(),
                                       .ld_logits = vocabulary,
                                       .target = target.data<int32_t>(),
                                       .lse = lse.data<Wide<T>>(),
                                       .row_loss = row_loss.data<Wide<T>>()});
    kernels::cross_entropy_total<Wide<T>>(tag, Launch{}, rows, scale, row_loss.data<Wide<T>>(), loss.data<Wide<T>>());
  });
  auto backward = [=, x = logits.value()](const Tensor& dloss, InputGradients& in) {
    const GradientTarget dx = in.target(0);
    on_device_number(x.device(), x.dtype(), [&]<class T>(auto tag) {
      kernels::cross_entropy_backward<T>(tag, Launch{},
                                         {.rows = rows,
                                          .vocabulary = vocabulary,
                                          .logits = x.data<T>(),
                                          .ld_logits = vocabulary,
                                          .target = target.data<int32_t>(),
                                          .scale = scale,
                                          .lse = lse.data<Wide<T>>(),
                                          .dloss = dloss.data<Wide<T>>(),
                                          .dlogits = dx.tensor.data<T>(),
                                          .ld_dlogits = vocabulary,
                                          .mode = dx.mode});
    });
  };
  return {tape.record(loss, {logits}, std::move(backward)), row_loss};
}

}  // namespace moeut::ops
