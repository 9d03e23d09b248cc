// Which attention cuDNN computes, in which parts of the batch, and in which layout.
#pragma once

#include <algorithm>

#include "kernels/attention.h"
#include "kernels/cuda/cudnn_plan.h"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

constexpr int64_t kLeastLength = 128;  // below a tile of cuDNN's kernels nothing is won, and each length costs a plan
constexpr int64_t kMostDims = 256;     // of a head
constexpr int64_t kMostElements = int64_t{1} << 31;  // of a tensor: cuDNN may count them in 32 bits
/// T² of the heads whose gradients are computed together: 2 bytes each in the workspace. In parts of a half the
/// backward pass of 64 sequences of 1024 takes 9 % longer, of a quarter 28 %.
constexpr int64_t kMostScores = 256 << 20;

/// Hopper alone, where the backward graph was seen to give the same bits each time. cuDNN 9.10.2 is the first without
/// known errors in attention.
inline bool is_usable() {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major == 9 && cudnn_version() >= 91002;
}

inline bool applies(const AttentionShape& s, const AttentionMask& mask) {
  return mask.position == nullptr && mask.keys == nullptr && mask.first_key == nullptr && s.q_len == s.k_len &&
         s.q_len >= kLeastLength && s.q_row_stride == s.kv_row_stride && s.q_batch_stride == s.kv_batch_stride &&
         s.head_dim <= kMostDims && s.batch * s.q_batch_stride < kMostElements && is_usable();
}

/// The gradients take T² scores a head. Up to cuDNN 9.15.0 NVIDIA's frontend works around an error in lengths that are
/// no multiples of 128.
inline bool applies_backward(const AttentionShape& s, const AttentionMask& mask) {
  return s.heads * s.q_len * s.q_len <= kMostScores && applies(s, mask) &&
         (s.q_len % 128 == 0 || cudnn_version() > 91500);
}

/// Sequences whose gradients are computed together: parts as equal as can be.
inline int64_t part_of_batch(const AttentionShape& s) {
  const int64_t most = std::max<int64_t>(1, kMostScores / (s.heads * s.q_len * s.q_len));
  return ceil_div(s.batch, ceil_div(s.batch, most));
}

/// f(the shape of a part, its first sequence) until one is false.
template <class F>
bool for_each_part(const AttentionShape& s, F&& f) {
  AttentionShape part = s;
  for (int64_t first = 0; first < s.batch; first += part.batch) {
    part.batch = std::min(part_of_batch(s), s.batch - first);
    if (!f(part, first)) return false;
  }
  return true;
}

inline bool is_aligned(const AttentionShape& s) {
  return (s.head_dim | s.q_row_stride | s.q_batch_stride) % 8 == 0;
}

/// The shape that cuDNN sees: this one, or that of dense copies with padded heads.
inline AttentionShape seen_by_cudnn(AttentionShape s) {
  if (is_aligned(s)) return s;
  s.head_dim = ceil_div(s.head_dim, 8) * 8;
  s.q_row_stride = s.kv_row_stride = s.heads * s.head_dim;
  s.q_batch_stride = s.kv_batch_stride = s.q_len * s.q_row_stride;
  return s;
}

}  // namespace moeut::kernels::cuda
