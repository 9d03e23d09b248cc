#include "autograd/ops/cross_entropy.h"

#include "autograd/op.h"
#include "kernels/cross_entropy.h"

namespace moeut::ops {

namespace {

void check(const Variable& logits, const Tensor& target) {
  require<ShapeError>(target.dtype() == DType::i32 && target.size() == logits.shape().rows(),
                      "cross_entropy: targets {} do not fit logits {}", target.str(), logits.shape().str());
  require<BackendError>(target.device() == logits.device(),
                        "cross_entropy: targets {} and logits {} live on different devices", target.str(),
                        logits.value().str());
  if (!target.device().is_cpu()) return;
  const int32_t* ids = target.data<int32_t>();
  for (int64_t i = 0; i < target.size(); ++i) {
    require<ShapeError>(ids[i] < logits.shape().row_size(),
                        "cross_entropy: target {} at place {} is outside the vocabulary of {}", ids[i], i,
                        logits.shape().row_size());
  }
}

}  // namespace

CrossEntropy cross_entropy(Tape& tape, const Variable& logits, const Tensor& target, double scale) {
  check(logits, target);
  const int64_t rows = logits.shape().rows(), vocabulary = logits.shape().row_size();
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
                                       .scale = scale,
                                       .lse = lse.data<Wide<T>>(),
                                       .row_loss = row_loss.data<Wide<T>>(),
                                       .loss = loss.data<Wide<T>>()});
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
