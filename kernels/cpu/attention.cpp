// Attention on the CPU: blocks of queries against the keys they can see, scores by BLAS.
#include "kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/parallel.h"
#include "kernels/gemm.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kQueries = 64;

/// Queries [begin, end) of head h of sequence b, and the keys [0, keys) that any of them may see.
struct Block {
  int64_t b, h, begin, end, keys;
  int64_t size() const { return end - begin; }
};

Block block_of(const AttentionShape& s, const AttentionMask& mask, int64_t b, int64_t h, int64_t begin) {
  const int64_t end = std::min(begin + kQueries, s.q_len);
  const int64_t visible = mask.causal ? std::clamp<int64_t>(end + s.k_len - s.q_len, 0, s.k_len) : s.k_len;
  return {b, h, begin, end, visible};
}

template <class T>
T* q_at(const AttentionShape& s, T* p, const Block& k) {
  return p + k.b * s.q_batch_stride + k.begin * s.q_row_stride + k.h * s.head_dim;
}
template <class T>
T* kv_at(const AttentionShape& s, T* p, const Block& k) {
  return p + k.b * s.kv_batch_stride + k.h * s.head_dim;
}

/// Scores of hidden keys become -inf.
template <class T>
void apply_mask(const AttentionShape& s, const AttentionMask& mask, const Block& k, T* scores) {
  constexpr T kHidden = -std::numeric_limits<T>::infinity();
  for (int64_t i = k.begin; i < k.end; ++i) {
    T* row = scores + (i - k.begin) * k.keys;
    if (mask.causal) {
      for (int64_t j = std::max<int64_t>(0, i + s.k_len - s.q_len + 1); j < k.keys; ++j) row[j] = kHidden;
    }
    if (mask.position != nullptr) {
      const uint8_t* hidden = mask.position + k.b * mask.position_batch_stride + i * s.k_len;
      for (int64_t j = 0; j < k.keys; ++j) row[j] = hidden[j] ? kHidden : row[j];
    }
    if (mask.keys != nullptr) {
      const uint8_t* hidden = mask.keys + k.b * s.k_len;
      for (int64_t j = 0; j < k.keys; ++j) row[j] = hidden[j] ? kHidden : row[j];
    }
  }
}

template <class T>
void scores_of(const AttentionShape& s, const AttentionMask& mask, const Block& k, const T* q, const T* keys, T* scores) {
  gemm_serial<T>({.m = k.size(), .n = k.keys, .k = s.head_dim, .a = q_at(s, q, k), .lda = s.q_row_stride, .b = kv_at(s, keys, k),
                  .ldb = s.kv_row_stride, .transpose_b = true, .c = scores, .ldc = k.keys});
  apply_mask(s, mask, k, scores);
}

/// row[j] = exp(row[j] - shift).
template <class T>
MOEUT_INLINE void exp_row_body(T* row, int64_t n, T shift) {
  for (int64_t j = 0; j < n; ++j) row[j] = fast_exp(row[j] - shift);
}
MOEUT_CLONES void exp_row(float* row, int64_t n, float shift) { exp_row_body(row, n, shift); }
MOEUT_CLONES void exp_row(double* row, int64_t n, double shift) { exp_row_body(row, n, shift); }

/// Softmax of one row in place; returns log Σ exp, -inf (and a row of zeros) if nothing is visible.
template <class T>
T softmax_row(T* row, int64_t n) {
  T largest = -std::numeric_limits<T>::infinity();
  for (int64_t j = 0; j < n; ++j) largest = std::max(largest, row[j]);
  if (largest == -std::numeric_limits<T>::infinity()) {
    std::fill_n(row, n, T(0));
    return largest;
  }
  exp_row(row, n, largest);
  double sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(row[j]);
  const T scale = static_cast<T>(1 / sum);
  for (int64_t j = 0; j < n; ++j) row[j] *= scale;
  return largest + static_cast<T>(std::log(sum));
}

int64_t blocks_per_head(const AttentionShape& s) { return (s.q_len + kQueries - 1) / kQueries; }

}  // namespace

template <class T>
size_t attention_forward_workspace_bytes(Cpu, const AttentionShape& s) {
  return static_cast<size_t>(thread_count() * kQueries * s.k_len) * sizeof(T);
}

template <class T>
void attention_forward(Cpu, const Launch& launch, const AttentionForward<T>& a) {
  const AttentionShape& s = a.shape;
  const int64_t blocks = blocks_per_head(s);
  parallel_pieces(s.batch * s.heads * blocks, [&](int64_t piece, int thread) {
    const int64_t bh = piece / blocks;
    const Block k = block_of(s, a.mask, bh / s.heads, bh % s.heads, piece % blocks * kQueries);
    T* scores = static_cast<T*>(launch.workspace) + thread * kQueries * s.k_len;
    scores_of(s, a.mask, k, a.q, a.k, scores);
    for (int64_t i = 0; i < k.size(); ++i) a.lse[bh * s.q_len + k.begin + i] = softmax_row(scores + i * k.keys, k.keys);
    gemm_serial<T>({.m = k.size(), .n = s.head_dim, .k = k.keys, .a = scores, .lda = k.keys, .b = kv_at(s, a.v, k), .ldb = s.kv_row_stride,
                    .c = q_at(s, a.out, k), .ldc = s.q_row_stride});
  });
}

namespace {

template <class T>
void clear_rows(T* data, int64_t rows, int64_t width, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) std::fill_n(data + i * ld, width, T(0));
}

/// P from the kept lse, and in `ds` P ∘ (dout·vᵀ - ⟨dout, out⟩).
template <class T>
void probabilities_and_ds(const AttentionBackward<T>& a, const Block& k, T* p, T* ds) {
  const AttentionShape& s = a.shape;
  scores_of(s, a.mask, k, a.q, a.k, p);
  gemm_serial<T>({.m = k.size(), .n = k.keys, .k = s.head_dim, .a = q_at(s, a.dout, k), .lda = s.q_row_stride, .b = kv_at(s, a.v, k),
                  .ldb = s.kv_row_stride, .transpose_b = true, .c = ds, .ldc = k.keys});
  for (int64_t i = 0; i < k.size(); ++i) {
    const T lse = a.lse[(k.b * s.heads + k.h) * s.q_len + k.begin + i];
    T *p_row = p + i * k.keys, *ds_row = ds + i * k.keys;
    if (lse == -std::numeric_limits<T>::infinity()) {
      std::fill_n(p_row, k.keys, T(0));
      std::fill_n(ds_row, k.keys, T(0));
      continue;
    }
    const T *out = q_at(s, a.out, k) + i * s.q_row_stride, *dout = q_at(s, a.dout, k) + i * s.q_row_stride;
    T delta = 0;
    for (int64_t j = 0; j < s.head_dim; ++j) delta += out[j] * dout[j];
    exp_row(p_row, k.keys, lse);
    for (int64_t j = 0; j < k.keys; ++j) ds_row[j] = p_row[j] * (ds_row[j] - delta);
  }
}

}  // namespace

template <class T>
size_t attention_backward_workspace_bytes(Cpu, const AttentionShape& s) {
  return static_cast<size_t>(thread_count() * 2 * kQueries * s.k_len) * sizeof(T);
}

template <class T>
void attention_backward(Cpu, const Launch& launch, const AttentionBackward<T>& a) {
  const AttentionShape& s = a.shape;
  parallel_pieces(s.batch * s.heads, [&](int64_t bh, int thread) {
    T* p = static_cast<T*>(launch.workspace) + thread * 2 * kQueries * s.k_len;
    T* ds = p + kQueries * s.k_len;
    const Block whole{bh / s.heads, bh % s.heads, 0, s.q_len, s.k_len};
    if (a.dk_mode == Mode::overwrite) clear_rows(kv_at(s, a.dk, whole), s.k_len, s.head_dim, s.kv_row_stride);
    if (a.dv_mode == Mode::overwrite) clear_rows(kv_at(s, a.dv, whole), s.k_len, s.head_dim, s.kv_row_stride);
    for (int64_t begin = 0; begin < s.q_len; begin += kQueries) {
      const Block k = block_of(s, a.mask, whole.b, whole.h, begin);
      probabilities_and_ds(a, k, p, ds);
      gemm_serial<T>({.m = k.size(), .n = s.head_dim, .k = k.keys, .a = ds, .lda = k.keys, .b = kv_at(s, a.k, k), .ldb = s.kv_row_stride,
                      .c = q_at(s, a.dq, k), .ldc = s.q_row_stride, .mode = a.dq_mode});
      gemm_serial<T>({.m = k.keys, .n = s.head_dim, .k = k.size(), .a = ds, .lda = k.keys, .transpose_a = true, .b = q_at(s, a.q, k),
                      .ldb = s.q_row_stride, .c = kv_at(s, a.dk, k), .ldc = s.kv_row_stride, .mode = Mode::accumulate});
      gemm_serial<T>({.m = k.keys, .n = s.head_dim, .k = k.size(), .a = p, .lda = k.keys, .transpose_a = true, .b = q_at(s, a.dout, k),
                      .ldb = s.q_row_stride, .c = kv_at(s, a.dv, k), .ldc = s.kv_row_stride, .mode = Mode::accumulate});
    }
  });
}

#define MOEUT_INSTANTIATE(T)                                                         \
  template size_t attention_forward_workspace_bytes<T>(Cpu, const AttentionShape&);  \
  template void attention_forward(Cpu, const Launch&, const AttentionForward<T>&);   \
  template size_t attention_backward_workspace_bytes<T>(Cpu, const AttentionShape&); \
  template void attention_backward(Cpu, const Launch&, const AttentionBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
