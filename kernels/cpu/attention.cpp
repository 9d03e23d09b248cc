// Attention forward on the CPU: blocks of queries against all the keys they can see, products by BLAS.
#include "kernels/attention.h"

#include <cmath>

#include "kernels/cpu/attention_block.h"
#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_ops.h"

namespace moeut::kernels {

namespace {

/// What softmax leaves to do: out · scale, and the row's log Σ exp.
template <class T>
struct RowScale {
  T scale, lse;
};

/// row = exp(row - its maximum). A row that sees nothing becomes zeros, with scale 0 and lse -inf; NaN stays NaN.
template <class T>
RowScale<T> exp_row(T* row, int64_t n) {
  constexpr T kNothing = -std::numeric_limits<T>::infinity();
  const T largest = max_row(row, n), shift = largest == kNothing ? T(0) : largest;
  const double sum = exp_sum_row(row, n, shift);
  if (sum == 0) return {T(0), kNothing};
  return {static_cast<T>(1 / sum), static_cast<T>(static_cast<double>(shift) + std::log(sum))};
}

template <class T>
void forward_block(const AttentionForward<T>& a, const AttentionBlock& k, T* scores) {
  const AttentionShape& s = a.shape;
  masked_scores(s, a.mask, k, a.q, a.k, scores);
  T scale[kQueryBlock];
  for (int64_t i = 0; i < k.queries(); ++i) {
    const RowScale<T> row = exp_row(scores + i * k.keys, k.keys);
    scale[i] = row.scale;
    a.lse[k.row(s) + i] = row.lse;
  }
  T* out = k.query(s, a.out);
  gemm_serial<T>({.m = k.queries(),
                  .n = s.head_dim,
                  .k = k.keys,
                  .a = scores,
                  .lda = k.keys,
                  .b = k.key(s, a.v),
                  .ldb = s.kv_row_stride,
                  .c = out,
                  .ldc = s.q_row_stride});
  for (int64_t i = 0; i < k.queries(); ++i) {
    scale_row(out + i * s.q_row_stride, out + i * s.q_row_stride, s.head_dim, scale[i]);
  }
}

int64_t scores_size(const AttentionShape& s) {
  return std::min(kQueryBlock, s.q_len) * s.k_len;
}

}  // namespace

template <class T>
size_t attention_forward_workspace_bytes(Cpu, const AttentionShape& s, const AttentionMask&) {
  return static_cast<size_t>(thread_count() * scores_size(s)) * sizeof(Wide<T>);
}

template <class T>
void attention_forward(Cpu tag, const Launch& launch, const AttentionForward<T>& a) {
  const AttentionShape& s = a.shape;
  if constexpr (kIsNarrow<T>) {
    Floats f;
    attention_forward<float>(tag, launch,
                             {.shape = s,
                              .mask = a.mask,
                              .q = f.in(a.q, query_extent(s)),
                              .k = f.in(a.k, key_extent(s)),
                              .v = f.in(a.v, key_extent(s)),
                              .out = f.out(a.out, query_extent(s), true),
                              .lse = a.lse});
  } else {
    const int64_t blocks = query_blocks(s);
    parallel_pieces(s.batch * s.heads * blocks, [&](int64_t piece, int thread) {
      const int64_t head = piece / blocks;
      const int64_t begin =
          (blocks - 1 - piece % blocks) * kQueryBlock;  // under a causal mask the last block is the longest
      const AttentionBlock block = attention_block(s, a.mask, head / s.heads, head % s.heads, begin, 0, s.k_len);
      forward_block(a, block, static_cast<T*>(launch.workspace) + thread * scores_size(s));
    });
  }
}

#define MOEUT_INSTANTIATE(T)                                                                              \
  template size_t attention_forward_workspace_bytes<T>(Cpu, const AttentionShape&, const AttentionMask&); \
  template void attention_forward<T>(Cpu, const Launch&, const AttentionForward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
