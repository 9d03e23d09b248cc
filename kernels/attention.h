// Softmax attention with scale 1 (the caller has scaled q and k), any mask, O(T) memory kept for backward.   [Dao et
// al. 2022]
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// What a query may not see; true (non-zero) means removed, and a key is removed if any part says so.
struct AttentionMask {
  /// Query i of Tq sees key j only if j <= i + (Tk - Tq).
  bool causal = false;
  const uint8_t* position = nullptr;  ///< (Tq, Tk) or, with a batch stride, (B, Tq, Tk); null: none
  int64_t position_batch_stride = 0;  ///< Tq·Tk, or 0 for one mask shared by the batch
  const uint8_t* keys = nullptr;      ///< (B, Tk); null: none
  /// (B, Tq): query i sees key j only if j >= first_key[b, i]; null: none. Keys before those of a whole tile cost
  /// nothing.
  const int32_t* first_key = nullptr;
};

/// Element (b, t, h, p) of q, k, v, out is at pointer + b·batch_stride + t·row_stride + h·head_dim + p.
struct AttentionShape {
  int64_t batch = 0, heads = 0, q_len = 0, k_len = 0, head_dim = 0;
  int64_t q_row_stride = 0, q_batch_stride = 0;    ///< of q, out and their gradients
  int64_t kv_row_stride = 0, kv_batch_stride = 0;  ///< of k, v and their gradients
  bool operator==(const AttentionShape&) const = default;
};

/// out[b,i,h] = Σ_j softmax_j(q[b,i,h]·k[b,j,h] + mask) v[b,j,h]; lse (B, H, Tq) = log Σ_j exp(q·k) over the visible
/// keys. A query that sees no key gets out = 0 (and lse = -inf), never NaN.
template <class T>
struct AttentionForward {
  AttentionShape shape;
  AttentionMask mask;
  const T* q = nullptr;
  const T* k = nullptr;
  const T* v = nullptr;
  T* out = nullptr;
  Wide<T>* lse = nullptr;
};
/// On CUDA the first call for a shape may compile kernels, for up to a second: not while a graph is captured.
template <class T>
size_t attention_forward_workspace_bytes(Cpu, const AttentionShape& shape, const AttentionMask& mask);
template <class T>
size_t attention_forward_workspace_bytes(Cuda, const AttentionShape& shape, const AttentionMask& mask);
template <class T>
void attention_forward(Cpu, const Launch&, const AttentionForward<T>& args);
template <class T>
void attention_forward(Cuda, const Launch&, const AttentionForward<T>& args);

/// dq, dk, dv, overwritten or accumulated by their modes; a query that saw no key contributes nothing.
template <class T>
struct AttentionBackward {
  AttentionShape shape;
  AttentionMask mask;
  const T* q = nullptr;
  const T* k = nullptr;
  const T* v = nullptr;
  const T* out = nullptr;
  const Wide<T>* lse = nullptr;
  const T* dout = nullptr;
  T* dq = nullptr;
  T* dk = nullptr;
  T* dv = nullptr;
  Mode dq_mode = Mode::overwrite, dk_mode = Mode::overwrite, dv_mode = Mode::overwrite;
};
template <class T>
size_t attention_backward_workspace_bytes(Cpu, const AttentionShape& shape, const AttentionMask& mask);
template <class T>
size_t attention_backward_workspace_bytes(Cuda, const AttentionShape& shape, const AttentionMask& mask);
template <class T>
void attention_backward(Cpu, const Launch&, const AttentionBackward<T>& args);
template <class T>
void attention_backward(Cuda, const Launch&, const AttentionBackward<T>& args);

}  // namespace moeut::kernels
