// A block of queries against a range of keys: what attention's forward and backward share on the CPU.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/attention.h"
#include "kernels/gemm.h"

namespace moeut::kernels {

/// Queries of one block: enough that BLAS's copy of the keys is paid, few enough that causal blocks waste little.
inline constexpr int64_t kQueryBlock = 64;

/// Queries [begin, end) of head h of sequence b, and the keys [first_key, first_key + keys) that some of them may see.
struct AttentionBlock {
  int64_t b, h, begin, end, first_key, keys;

  int64_t queries() const { return end - begin; }

  /// The element of this block's first query in an operand laid out like q.
  template <class T>
  T* query(const AttentionShape& s, T* q) const {
    return q + b * s.q_batch_stride + begin * s.q_row_stride + h * s.head_dim;
  }
  /// The element of this block's first key in an operand laid out like k.
  template <class T>
  T* key(const AttentionShape& s, T* k) const {
    return k + b * s.kv_batch_stride + first_key * s.kv_row_stride + h * s.head_dim;
  }
  /// The index of this block's first query in lse.
  int64_t row(const AttentionShape& s) const { return (b * s.heads + h) * s.q_len + begin; }
};

inline int64_t query_blocks(const AttentionShape& s) {
  return (s.q_len + kQueryBlock - 1) / kQueryBlock;
}

/// The first key in [first_key, end_key] that one of the queries [begin, end) of sequence b may see, by mask.first_key.
inline int64_t first_visible(const AttentionShape& s, const AttentionMask& mask, int64_t b, int64_t begin, int64_t end,
                             int64_t first_key, int64_t end_key) {
  if (mask.first_key == nullptr) return first_key;
  const int32_t* of_sequence = mask.first_key + b * s.q_len;
  return std::clamp<int64_t>(*std::min_element(of_sequence + begin, of_sequence + end), first_key, end_key);
}

/// The block that begins at query `begin`, against those of the keys [first_key, end_key) that causality and first_key
/// leave it.
inline AttentionBlock attention_block(const AttentionShape& s, const AttentionMask& mask, int64_t b, int64_t h,
                                      int64_t begin, int64_t first_key, int64_t end_key) {
  const int64_t end = std::min(begin + kQueryBlock, s.q_len);
  first_key = first_visible(s, mask, b, begin, end, first_key, end_key);
  const int64_t visible_end = mask.causal ? std::min(end_key, end + s.k_len - s.q_len) : end_key;
  return {b, h, begin, end, first_key, std::max<int64_t>(0, visible_end - first_key)};
}

/// Scores of removed keys become -inf.
template <class T>
void apply_mask(const AttentionShape& s, const AttentionMask& mask, const AttentionBlock& k, T* scores) {
  constexpr T kRemoved = -std::numeric_limits<T>::infinity();
  const auto remove = [&](T* row, const uint8_t* removed) {
    for (int64_t j = 0; j < k.keys; ++j) row[j] = removed[j] != 0 ? kRemoved : row[j];
  };
  for (int64_t i = k.begin; i < k.end; ++i) {
    T* row = scores + (i - k.begin) * k.keys;
    if (mask.causal) {
      const int64_t visible = std::clamp<int64_t>(i + s.k_len - s.q_len + 1 - k.first_key, 0, k.keys);
      std::fill(row + visible, row + k.keys, kRemoved);
    }
    if (mask.first_key != nullptr) {
      const int64_t hidden = std::clamp<int64_t>(mask.first_key[k.b * s.q_len + i] - k.first_key, 0, k.keys);
      std::fill(row, row + hidden, kRemoved);
    }
    if (mask.position != nullptr) {
      remove(row, mask.position + k.b * mask.position_batch_stride + i * s.k_len + k.first_key);
    }
    if (mask.keys != nullptr) remove(row, mask.keys + k.b * s.k_len + k.first_key);
  }
}

/// scores (queries, keys) = q·kᵀ, masked.
template <class T>
void masked_scores(const AttentionShape& s, const AttentionMask& mask, const AttentionBlock& k, const T* q,
                   const T* keys, T* scores) {
  gemm_serial<T>({.m = k.queries(),
                  .n = k.keys,
                  .k = s.head_dim,
                  .a = k.query(s, q),
                  .lda = s.q_row_stride,
                  .b = k.key(s, keys),
                  .ldb = s.kv_row_stride,
                  .transpose_b = true,
                  .c = scores,
                  .ldc = k.keys});
  apply_mask(s, mask, k, scores);
}

/// Elements that queries (and what has their layout), or keys, reach over.
inline int64_t query_extent(const AttentionShape& s) {
  return (s.batch - 1) * s.q_batch_stride + (s.q_len - 1) * s.q_row_stride + s.heads * s.head_dim;
}
inline int64_t key_extent(const AttentionShape& s) {
  return (s.batch - 1) * s.kv_batch_stride + (s.k_len - 1) * s.kv_row_stride + s.heads * s.head_dim;
}

}  // namespace moeut::kernels
