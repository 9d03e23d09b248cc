// Who sees whom, and which tiles of keys and queries need not be looked at.
#pragma once

#include "kernels/attention.h"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

__device__ inline bool sees(const AttentionShape& s, const AttentionMask& m, int64_t batch, int64_t query,
                            int64_t key) {
  if (query >= s.q_len || key >= s.k_len) return false;
  if (m.causal && key > query + (s.k_len - s.q_len)) return false;
  if (m.first_key != nullptr && key < m.first_key[batch * s.q_len + query]) return false;
  if (m.keys != nullptr && m.keys[batch * s.k_len + key] != 0) return false;
  return m.position == nullptr || m.position[batch * m.position_batch_stride + query * s.k_len + key] == 0;
}

/// The smallest and the largest first_key of a tile of queries: none of them sees a key before `least`, and all see, as
/// far as first_key goes, those from `greatest` on. A whole warp calls it and every lane gets the same.
struct FirstKeys {
  int least = 0, greatest = 0;
  __device__ FirstKeys(const AttentionShape& s, const AttentionMask& m, int64_t batch, int64_t query0,
                       int64_t queries) {
    if (m.first_key == nullptr) return;
    least = static_cast<int>(s.k_len);
    for (int64_t i = query0 + threadIdx.x % 32; i < query0 + queries && i < s.q_len; i += 32) {
      const int first = m.first_key[batch * s.q_len + i];
      least = min(least, first);
      greatest = max(greatest, first);
    }
    least = max(__reduce_min_sync(kAllLanes, least), 0);
    greatest = __reduce_max_sync(kAllLanes, greatest);
  }
  /// Where the walk along tiles of `tile` keys begins.
  __device__ int64_t first_tile(int64_t tile) const { return least / tile * tile; }
};

/// True if every query of a rectangle sees every key of it.
__device__ inline bool all_see(const AttentionShape& s, const AttentionMask& m, const FirstKeys& first, int64_t query0,
                               int64_t queries, int64_t key0, int64_t keys) {
  if (m.keys != nullptr || m.position != nullptr || key0 < first.greatest) return false;
  if (query0 + queries > s.q_len || key0 + keys > s.k_len) return false;
  return !m.causal || key0 + keys - 1 <= query0 + (s.k_len - s.q_len);
}

/// Keys before which the last key lies that any of these queries sees under a causal mask.
__device__ inline int64_t keys_seen(const AttentionShape& s, const AttentionMask& m, int64_t query0, int64_t queries) {
  const int64_t seen = query0 + queries + (s.k_len - s.q_len);
  return m.causal && seen < s.k_len ? (seen > 0 ? seen : 0) : s.k_len;
}

/// Queries that may see a key of [key0, key0 + keys): from `begin`, a multiple of `tile`, to before `end`. A whole warp
/// makes it.
struct QueriesThatSee {
  int64_t begin = 0, end;
  __device__ QueriesThatSee(const AttentionShape& s, const AttentionMask& m, int64_t batch, int64_t key0, int64_t keys,
                            int64_t tile)
      : end(s.q_len) {
    const int64_t sees_first = key0 - (s.k_len - s.q_len);
    if (m.causal && sees_first > 0) begin = sees_first / tile * tile;
    if (m.first_key == nullptr) return;
    int last = -1;
    for (int64_t i = begin + threadIdx.x % 32; i < s.q_len; i += 32) {
      if (m.first_key[batch * s.q_len + i] < key0 + keys) last = static_cast<int>(i);
    }
    end = __reduce_max_sync(kAllLanes, last) + 1;
  }
};

}  // namespace moeut::kernels::cuda
