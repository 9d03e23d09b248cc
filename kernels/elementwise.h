// Kernels that touch each element once.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"
#include "core/rng.h"

namespace moeut::kernels {

/// y = value; n elements.
template <class T>
void fill(Cpu, const Launch&, int64_t n, T value, T* y);
template <class T>
void fill(Cuda, const Launch&, int64_t n, T value, T* y);

/// y = scale · x, overwritten or accumulated; n elements.
template <class T>
void scale_copy(Cpu, const Launch&, int64_t n, Wide<T> scale, const T* x, T* y, Mode mode);
template <class T>
void scale_copy(Cuda, const Launch&, int64_t n, Wide<T> scale, const T* x, T* y, Mode mode);

/// y = (*dividend / *divisor) · x, by mode; n elements. The factors are read where the kernel runs; divisor null: 1.
template <class T>
void scale_by_ratio(Cpu, const Launch&, int64_t n, const Wide<T>* dividend, const Wide<T>* divisor, const T* x, T* y,
                    Mode mode);
template <class T>
void scale_by_ratio(Cuda, const Launch&, int64_t n, const Wide<T>* dividend, const Wide<T>* divisor, const T* x, T* y,
                    Mode mode);

/// y = x in another number format, overwritten or accumulated (in Wide<To>); n elements.
template <class From, class To>
void cast(Cpu, const Launch&, int64_t n, const From* x, To* y, Mode mode);
template <class From, class To>
void cast(Cuda, const Launch&, int64_t n, const From* x, To* y, Mode mode);

/// A matrix in a larger one: y[i, j] = x[i, j] in To's format, 0 where x has no such row or column; by mode.
/// x: (rows, width), rows ldx elements apart   y: (padded_rows, padded_width), dense, at least as large.
/// To is From, or one of the two is the other's wide type.
template <class From, class To>
struct PaddedCopy {
  int64_t rows = 0, width = 0;
  const From* x = nullptr;
  int64_t ldx = 0;
  int64_t padded_rows = 0, padded_width = 0;
  To* y = nullptr;
  Mode mode = Mode::overwrite;
};
template <class From, class To>
void copy_padded(Cpu, const Launch&, const PaddedCopy<From, To>& args);
template <class From, class To>
void copy_padded(Cuda, const Launch&, const PaddedCopy<From, To>& args);

/// y = a + b; n elements. y may be a or b.
template <class T>
void add(Cpu, const Launch&, int64_t n, const T* a, const T* b, T* y);
template <class T>
void add(Cuda, const Launch&, int64_t n, const T* a, const T* b, T* y);

/// y[i, :] += bias; y: (rows, n).
template <class T>
void add_bias(Cpu, const Launch&, int64_t rows, int64_t n, const Wide<T>* bias, T* y, int64_t ldy);
template <class T>
void add_bias(Cuda, const Launch&, int64_t rows, int64_t n, const Wide<T>* bias, T* y, int64_t ldy);

/// Dropout:  y = x / (1 - p) where kept, 0 where dropped; element i of sequence b is kept if dropout_uniform(rng, b,
/// site, i) >= p. x, y: (sequences, n). The same call on dy gives dx (then by mode). y may be x.
template <class T>
struct Dropout {
  int64_t sequences = 0, n = 0;
  double p = 0;
  const RngState* rng = nullptr;
  uint64_t site = 0;
  const T* x = nullptr;
  T* y = nullptr;
  Mode mode = Mode::overwrite;
};
template <class T>
void dropout(Cpu, const Launch&, const Dropout<T>& args);
template <class T>
void dropout(Cuda, const Launch&, const Dropout<T>& args);

/// Output gate of dense attention:  y[i, h, :] = sigmoid(logit[i, h]) · x[i, h, :].
/// x, y: (rows, heads, head_dim)   logit: (rows, heads). Overwritten.
template <class T>
void head_gate_forward(Cpu, const Launch&, int64_t rows, int64_t heads, int64_t head_dim, const T* x,
                       const Wide<T>* logit, T* y);
template <class T>
void head_gate_forward(Cuda, const Launch&, int64_t rows, int64_t heads, int64_t head_dim, const T* x,
                       const Wide<T>* logit, T* y);

/// dx = sigmoid(logit) · dy;  dlogit[i, h] = p (1 - p) Σ_j dy[i, h, j] x[i, h, j]; each by its mode, null: not wanted.
template <class T>
struct HeadGateBackward {
  int64_t rows = 0, heads = 0, head_dim = 0;
  const T* x = nullptr;
  const Wide<T>* logit = nullptr;
  const T* dy = nullptr;
  T* dx = nullptr;
  Mode dx_mode = Mode::overwrite;
  Wide<T>* dlogit = nullptr;
  Mode dlogit_mode = Mode::overwrite;
};
template <class T>
void head_gate_backward(Cpu, const Launch&, const HeadGateBackward<T>& args);
template <class T>
void head_gate_backward(Cuda, const Launch&, const HeadGateBackward<T>& args);

}  // namespace moeut::kernels
