// Cross-entropy of logits against target ids.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// row_loss[i] = lse[i] - logits[i, target[i]], lse = log Σ exp; a target below 0 is ignored (row_loss 0).
/// logits: (rows, vocabulary)   lse, row_loss: (rows). Overwritten.
/// Where dlogits is given, the same pass writes the gradient there, as cross_entropy_backward does.
template <class T>
struct CrossEntropyForward {
  int64_t rows = 0, vocabulary = 0;
  const T* logits = nullptr;
  int64_t ld_logits = 0;
  const int32_t* target = nullptr;
  Wide<T>* lse = nullptr;
  Wide<T>* row_loss = nullptr;
  T* dlogits = nullptr;  ///< rows ld_logits apart; may be the logits themselves
  const Wide<T>* dloss = nullptr;
  double scale = 1;  ///< of the loss, in dlogits
};
template <class T>
void cross_entropy_forward(Cpu, const Launch&, const CrossEntropyForward<T>& args);
template <class T>
void cross_entropy_forward(Cuda, const Launch&, const CrossEntropyForward<T>& args);

/// loss = scale · Σ row_loss, in float64 over fixed blocks.   row_loss: (rows)   loss: one element.
template <class W>
void cross_entropy_total(Cpu, const Launch&, int64_t rows, double scale, const W* row_loss, W* loss);
template <class W>
void cross_entropy_total(Cuda, const Launch&, int64_t rows, double scale, const W* row_loss, W* loss);

/// dlogits[i, v] = dloss · scale · (exp(logits[i, v] - lse[i]) - [v = target[i]]), 0 where the target is ignored.
/// dlogits may be the logits themselves.   dloss: one element; null: 1.
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
