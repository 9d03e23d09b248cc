// Rotary position embedding, half-split pairs, on the first dimensions of each head.   [Su et al. 2021]
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// y = scale · rotate(x). For i < n_rotate/2 the pair (x[i], x[i + n_rotate/2]) of each head turns by position ·
/// base^(-2i/n_rotate); the other dims only scale. The token (b, t) is at position first_position + t. `inverse` turns
/// back (that is the backward pass). x, y: (batch, time, heads, head_dim), tokens ldx / ldy elements apart. y may be x.
/// n_rotate is even and at most head_dim.
template <class T>
struct Rope {
  int64_t batch = 0, time = 0, heads = 0, head_dim = 0, n_rotate = 0;
  int64_t first_position = 0;
  double base = 10000;
  Wide<T> scale = 1;
  bool inverse = false;
  const T* x = nullptr;
  int64_t ldx = 0;
  T* y = nullptr;
  int64_t ldy = 0;
  Mode mode = Mode::overwrite;
};
/// Angles are computed in float64 and rounded once.
template <class T>
void rope(Cpu, const Launch&, const Rope<T>& args);
template <class T>
void rope(Cuda, const Launch&, const Rope<T>& args);

}  // namespace moeut::kernels
