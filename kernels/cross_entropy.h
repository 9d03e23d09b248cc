// Cross-entropy of logits against target ids.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// row_loss[i] = lse[i] - logits[i, target[i]], lse = log Σ exp; a target below 0 is ignored (row_loss 0).
/// loss = scale · Σ row_loss, summed in float64 over fixed blocks.   logits: (rows, vocabulary)   loss: one element.
/// Overwritten.
template <class T>
struct CrossEntropyForward {
  int64_t rows = 0, vocabulary = 0;
  const T* logits = nullptr;
  int64_t ld_logits = 0;
  const int32_t* target = nullptr;
  double scale = 1;
  Wide<T>* lse = nullptr;
  Wide<T>* row_loss = nullptr;
  Wide<T>* loss = nullptr;
};
template <class T>
void cross_entropy_forward(Cpu, const Launch&, const CrossEntropyForward<T>& args);
template <class T>
void cross_entropy_forward(Cuda, const Launch&, const CrossEntropyForward<T>& args);

/// dlogits[i, v] = dloss · scale · (exp(logits[i, v] - lse[i]) - [v = target[i]]), 0 where the target is ignored.
/// dlogits may be the logits themselves.   dloss: one element.
template <class T>
struct CrossEntropyBackward {
  int64_t rows = 0, vocabulary = 0;
  const T* logits = nullptr;
  int64_t ld_logits = 0;
  const int32_t* target = nullptr;
  double scale = 1;
  const Wide<T>* lse = nullptr;
  const Wide<T>* dloss = nullptr;
  T* dlogits = nullptr;
  int64_t ld_dlogits = 0;
  Mode mode = Mode::overwrite;
};
template <class T>
void cross_entropy_backward(Cpu, const Launch&, const CrossEntropyBackward<T>& args);
template <class T>
void cross_entropy_backward(Cuda, const Launch&, const CrossEntropyBackward<T>& args);

}  // namespace moeut::kernels
