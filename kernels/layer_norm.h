// Layer normalisation over the last dimension.   [Ba et al. 2016]
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// y = (x - mean) · rstd · weight + bias per row; mean and rstd = 1/√(var + eps) are kept for backward. Biased
/// variance. T is the type of y; all else is wide.   x, y: (rows, n)   weight, bias: (n)   mean, rstd: (rows). All
/// outputs overwritten.
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
};
template <class T>
void layer_norm_forward(Cpu, const Launch&, const LayerNormForward<T>& args);
template <class T>
void layer_norm_forward(Cuda, const Launch&, const LayerNormForward<T>& args);

/// dx: (rows, n)   dweight, dbias: (n). Each output may be null (not wanted) and has its own mode.
/// Parameter gradients are summed over fixed blocks of rows, then over blocks in order.
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
  Mode dx_mode = Mode::overwrite;
  Wide<T>* dweight = nullptr;
  Mode dweight_mode = Mode::overwrite;
  Wide<T>* dbias = nullptr;
  Mode dbias_mode = Mode::overwrite;
};
template <class T>
size_t layer_norm_backward_workspace_bytes(Cpu, int64_t rows, int64_t n);
template <class T>
size_t layer_norm_backward_workspace_bytes(Cuda, int64_t rows, int64_t n);
template <class T>
void layer_norm_backward(Cpu, const Launch&, const LayerNormBackward<T>& args);
template <class T>
void layer_norm_backward(Cuda, const Launch&, const LayerNormBackward<T>& args);

}  // namespace moeut::kernels
