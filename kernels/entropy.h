// The entropy regulariser of a router: minus the entropy of the mean selection distribution of each sequence. [Csordás
// et al. 2024, eq. 13]
#pragma once

#include <cstdint>
#include <span>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// Over the logits of the R repeats that share a router, each (batch, time, heads, experts), dense:
///   ℓ = log_softmax over experts;  m[b, h, e] = log mean over (R, time) of exp ℓ;
///   reg = scale · Σ_b (1 / heads) Σ_h Σ_e m · exp(m).
/// (scale = coefficient / number of sequences.)   log_mean: (batch, heads, experts), kept for backward.   reg: one
/// element, overwritten. Computed so that nothing under- or overflows: exp(ℓ) below the smallest float still counts in
/// m.
template <class T>
struct EntropyForward {
  int64_t batch = 0, time = 0, heads = 1, experts = 0;
  std::span<const T* const> logits;
  double scale = 0;
  T* log_mean = nullptr;
  T* reg = nullptr;
};
template <class T>
size_t entropy_workspace_bytes(Cpu, int64_t batch, int64_t time, int64_t heads, int64_t experts);
template <class T>
size_t entropy_workspace_bytes(Cuda, int64_t batch, int64_t time, int64_t heads, int64_t experts);
template <class T>
void entropy_forward(Cpu, const Launch&, const EntropyForward<T>& args);
template <class T>
void entropy_forward(Cuda, const Launch&, const EntropyForward<T>& args);

/// The gradient for one repeat's logits, with p = softmax(logits) and c[e] = dreg · scale · (1 + m[e]) / (heads · R ·
/// time): dlogits[e] = p[e] · (c[e] - Σ_e' c[e'] p[e']); overwritten or accumulated.   dreg: one element.
template <class T>
struct EntropyBackward {
  int64_t batch = 0, time = 0, heads = 1, experts = 0, repeats = 1;
  const T* logits = nullptr;
  const T* log_mean = nullptr;
  double scale = 0;
  const T* dreg = nullptr;
  T* dlogits = nullptr;
  Mode mode = Mode::overwrite;
};
template <class T>
void entropy_backward(Cpu, const Launch&, const EntropyBackward<T>& args);
template <class T>
void entropy_backward(Cuda, const Launch&, const EntropyBackward<T>& args);

}  // namespace moeut::kernels
