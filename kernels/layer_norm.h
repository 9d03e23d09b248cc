// Layer normalisation over the last dimension, with what stands around it in a residual stream: the addition before it
// and the copy of the sum that matrix products read.   [Ba et al. 2016]
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// h = x + branch, and y = (h - mean) · rstd · weight + bias per row; mean and rstd = 1/√(var + eps) are kept for
/// backward. Biased variance. T is the type of y and of narrow = h; all else is wide.
/// x, branch, h, narrow, y: (rows, n)   weight, bias: (n)   mean, rstd: (rows). All outputs overwritten.
/// Without a branch (null) h is x and stays null; narrow may be null: not wanted.
template <class T>
struct LayerNormForward {
  int64_t rows = 0, n = 0;
  const Wide<T>* x = nullptr;
  int64_t ldx = 0;
  const Wide<T>* weight = nullptr;
  const Wide<T>* bias = nullptr;
  T* y = nullptr;
  int64_t ldy = 0;
  Wide<T>* mean = nullptr;
  Wide<T>* rstd = nullptr;
  double eps = 1e-5;
  const Wide<T>* branch = nullptr;  ///< rows ldx apart
  Wide<T>* h = nullptr;             ///< rows ldx apart
  T* narrow = nullptr;              ///< rows ldy apart
};
template <class T>
void layer_norm_forward(Cpu, const Launch&, const LayerNormForward<T>& args);
/// Throws BackendError for rows of more than 16384 elements on CUDA, where a block keeps its row.
template <class T>
void layer_norm_forward(Cuda, const Launch&, const LayerNormForward<T>& args);

/// dx = dh + (dnarrow + what comes through y), the gradient of h and so of x and of the branch; dh and dnarrow may be
/// null: 0.   x here is h.   dx, dh, dnarrow: (rows, n), overwritten; dx may be dh, which accumulates.
/// dweight, dbias: (n), each by its mode: summed over fixed blocks of rows, then over blocks in a fixed order.
/// dx, dweight, dbias may be null: not wanted.
template <class T>
struct LayerNormBackward {
  int64_t rows = 0, n = 0;
  const T* dy = nullptr;
  int64_t lddy = 0;
  const Wide<T>* x = nullptr;
  int64_t ldx = 0;
  const Wide<T>* weight = nullptr;
  const Wide<T>* mean = nullptr;
  const Wide<T>* rstd = nullptr;
  Wide<T>* dx = nullptr;
  int64_t lddx = 0;
  Wide<T>* dweight = nullptr;
  Mode dweight_mode = Mode::overwrite;
  Wide<T>* dbias = nullptr;
  Mode dbias_mode = Mode::overwrite;
  const Wide<T>* dh = nullptr;  ///< rows lddx apart
  const T* dnarrow = nullptr;   ///< rows lddy apart
};
template <class T>
size_t layer_norm_backward_workspace_bytes(Cpu, int64_t rows, int64_t n);
template <class T>
size_t layer_norm_backward_workspace_bytes(Cuda, int64_t rows, int64_t n);
template <class T>
void layer_norm_backward(Cpu, const Launch&, const LayerNormBackward<T>& args);
/// Throws BackendError as the forward kernel.
template <class T>
void layer_norm_backward(Cuda, const Launch&, const LayerNormBackward<T>& args);

}  // namespace moeut::kernels
