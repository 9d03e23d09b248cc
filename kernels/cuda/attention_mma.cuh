// Attention on tensor cores for 16-bit numbers and heads of at most 128 dims, any mask. A block of 4 warps owns 64 rows
// (queries, or keys in the gradient of keys and values), each warp 16 of them, and walks along the others.
// [Dao et al. 2022; the division of work as in FlashAttention-2]
#pragma once

#include "kernels/cuda/attention_mask.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace moeut::kernels::cuda {

constexpr int kOwnRows = 64;
constexpr int kAttentionThreads = 128;

/// Rows of a head in shared memory: kSteps · 16 dims, of which those beyond the head's are 0.
template <int kRows, int kSteps>
using HeadTile = SharedTile<kRows, kSteps <= 4 ? 64 : 128>;

/// One (sequence, head).
struct Head {
  int64_t batch, head;
  __device__ explicit Head(const AttentionShape& s) : batch(blockIdx.y / s.heads), head(blockIdx.y % s.heads) {}
  template <class T>
  __device__ T* queries(const AttentionShape& s, T* base) const {
    return base + batch * s.q_batch_stride + head * s.head_dim;
  }
  template <class T>
  __device__ T* keys(const AttentionShape& s, T* base) const {
    return base + batch * s.kv_batch_stride + head * s.head_dim;
  }
  __device__ int64_t statistics(const AttentionShape& s) const { return (batch * s.heads + head) * s.q_len; }
};

/// Starts the copies of rows [first, first + kRows) of a head.
template <class T, int kRows, int kSteps, int kCopy>
__device__ inline void copy_rows(uint32_t to, const T* rows, int64_t row_stride, int64_t first, int64_t length,
                                 int64_t dims) {
  using Tile = HeadTile<kRows, kSteps>;
  constexpr int kParts = 16 / kCopy, kChunks = kSteps * 2;
  for (int i = threadIdx.x; i < kRows * kChunks * kParts; i += kAttentionThreads) {
    const int part = i % kParts, chunk = i / kParts % kChunks, row = i / kParts / kChunks;
    const int64_t dim = chunk * 8 + part * (kCopy / 2);
    const bool there = first + row < length && dim < dims;
    copy_async<kCopy>(to + Tile::offset(row, chunk) + part * kCopy,
                      there ? rows + (first + row) * row_stride + dim : rows, there);
  }
}
/// 16 bytes at a time where the layout allows it, else 4.
template <class T, int kRows, int kSteps>
__device__ inline void load_rows(uint32_t to, const T* rows, int64_t row_stride, int64_t first, int64_t length,
                                 int64_t dims, bool aligned) {
  if (aligned) {
    copy_rows<T, kRows, kSteps, 16>(to, rows, row_stride, first, length, dims);
  } else {
    copy_rows<T, kRows, kSteps, 4>(to, rows, row_stride, first, length, dims);
  }
}

/// 16 rows of a tile from `row` on, 16 dims from `k` on, as operand A.
template <class Tile>
__device__ inline void load_a(uint32_t (&a)[4], uint32_t tile, int row, int k) {
  const int lane = threadIdx.x % 32;
  load_matrices<false>(a, tile + Tile::offset(row + lane % 16, k / 8 + lane / 16));
}
/// Operand B of 16 columns that are rows of the tile from `row` on, summed over its dims from `k` on.
template <class Tile>
__device__ inline void load_b_rows(uint32_t (&b)[4], uint32_t tile, int row, int k) {
  const int lane = threadIdx.x % 32;
  load_matrices<false>(b, tile + Tile::offset(row + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2));
}
/// Operand B of 16 columns that are dims of the tile from `dim` on, summed over its rows from `row` on.
template <class Tile>
__device__ inline void load_b_dims(uint32_t (&b)[4], uint32_t tile, int row, int dim) {
  const int lane = threadIdx.x % 32;
  load_matrices<true>(b, tile + Tile::offset(row + lane % 16, dim / 8 + lane / 16));
}

/// 16 x 8·kTiles results of a warp as operand A of the next product: columns 16·s to 16·s + 15.
template <class T, int kTiles>
__device__ inline void as_a(uint32_t (&a)[4], const float (&x)[kTiles][4], int s) {
  a[0] = pack<T>(x[2 * s][0], x[2 * s][1]);
  a[1] = pack<T>(x[2 * s][2], x[2 * s][3]);
  a[2] = pack<T>(x[2 * s + 1][0], x[2 * s + 1][1]);
  a[3] = pack<T>(x[2 * s + 1][2], x[2 * s + 1][3]);
}

/// x = rows of `own` from `row` on · rows of `other`ᵀ, over all dims: 16 x 8·kTiles.
template <class T, int kSteps, int kTiles, class Own, class Other>
__device__ inline void row_products(float (&x)[kTiles][4], uint32_t own, int row, uint32_t other) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j) x[j][0] = x[j][1] = x[j][2] = x[j][3] = 0;
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
    uint32_t a[4], b[4];
    load_a<Own>(a, own, row, k * 16);
#pragma unroll
    for (int j = 0; j < kTiles / 2; ++j) {
      load_b_rows<Other>(b, other, j * 16, k * 16);
      mma<T>(x[2 * j], a, b[0], b[1]);
      mma<T>(x[2 * j + 1], a, b[2], b[3]);
    }
  }
}

/// y += x (16 x 8·kTiles) · rows of `other`: 16 x dims.
template <class T, int kSteps, int kTiles, class Other>
__device__ inline void add_weighted_rows(float (&y)[kSteps * 2][4], const float (&x)[kTiles][4], uint32_t other) {
#pragma unroll
  for (int s = 0; s < kTiles / 2; ++s) {
    uint32_t a[4], b[4];
    as_a<T>(a, x, s);
#pragma unroll
    for (int d = 0; d < kSteps; ++d) {
      load_b_dims<Other>(b, other, s * 16, d * 16);
      mma<T>(y[2 * d], a, b[0], b[1]);
      mma<T>(y[2 * d + 1], a, b[2], b[3]);
    }
  }
}

template <class T>
__device__ inline void store_two(T* to, float first, float second, int64_t dim, int64_t dims, Mode mode) {
  if (dim < dims) store(to + dim, first, mode);
  if (dim + 1 < dims) store(to + dim + 1, second, mode);
}

/// The sum and the largest over the 4 lanes that share a row.
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kAllLanes, x, 1);
  return x + __shfl_xor_sync(kAllLanes, x, 2);
}
__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
  return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}

// ---------------------------------------------------------------- forward

template <class T, int kSteps>
__global__ void __launch_bounds__(kAttentionThreads) forward_mma_kernel(AttentionForward<T> a, bool aligned) {
  constexpr int kKeys = 64, kTiles = kKeys / 8;
  using Own = HeadTile<kOwnRows, kSteps>;
  using Other = HeadTile<kKeys, kSteps>;
  extern __shared__ __align__(128) char shared[];
  const AttentionShape& s = a.shape;
  const Head at(s);
  const uint32_t q = shared_address(shared), stages = q + Own::kBytes;
  // The longest rows first, so that the last blocks to finish are short ones.
  const int64_t query0 = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * kOwnRows;
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16;
  const int64_t key_end = keys_seen(s, a.mask, query0, kOwnRows);
  const FirstKeys first(s, a.mask, at.batch, query0, kOwnRows);
  const int64_t key_begin = first.first_tile(kKeys);
  const auto load = [&](int64_t key0, int stage) {
    const uint32_t k = stages + stage * 2 * Other::kBytes;
    load_rows<T, kKeys, kSteps>(k, at.keys(s, a.k), s.kv_row_stride, key0, s.k_len, s.head_dim, aligned);
    load_rows<T, kKeys, kSteps>(k + Other::kBytes, at.keys(s, a.v), s.kv_row_stride, key0, s.k_len, s.head_dim,
                                aligned);
  };
  load_rows<T, kOwnRows, kSteps>(q, at.queries(s, a.q), s.q_row_stride, query0, s.q_len, s.head_dim, aligned);
  if (key_begin < key_end) load(key_begin, 0);
  commit_copies();
  float out[kSteps * 2][4] = {}, largest[2] = {-INFINITY, -INFINITY}, sum[2] = {};
  int stage = 0;
  for (int64_t key0 = key_begin; key0 < key_end; key0 += kKeys, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    if (key0 + kKeys < key_end) load(key0 + kKeys, stage ^ 1);
    commit_copies();
    const uint32_t k = stages + stage * 2 * Other::kBytes;
    float x[kTiles][4];
    row_products<T, kSteps, kTiles, Own, Other>(x, q, row, k);
    if (!all_see(s, a.mask, first, query0, kOwnRows, key0, kKeys)) {
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          const int64_t query = query0 + row + lane / 4 + e / 2 * 8, key = key0 + j * 8 + lane % 4 * 2 + e % 2;
          if (!sees(s, a.mask, at.batch, query, key)) x[j][e] = -INFINITY;
        }
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = largest[half];
#pragma unroll
      for (int j = 0; j < kTiles; ++j) top = fmaxf(top, fmaxf(x[j][2 * half], x[j][2 * half + 1]));
      top = quad_max(top);
      const float base = top == -INFINITY ? 0.0f : top;  // nothing seen yet: every exponential is 0
      const float keep = __expf(largest[half] - base);
      float added = 0;
#pragma unroll
      for (int j = 0; j < kTiles; ++j) {
        added += x[j][2 * half] = __expf(x[j][2 * half] - base);
        added += x[j][2 * half + 1] = __expf(x[j][2 * half + 1] - base);
      }
      sum[half] = sum[half] * keep + added;
      largest[half] = top;
#pragma unroll
      for (int d = 0; d < kSteps * 2; ++d) {
        out[d][2 * half] *= keep;
        out[d][2 * half + 1] *= keep;
      }
    }
    add_weighted_rows<T, kSteps, kTiles, Other>(out, x, k + Other::kBytes);
  }
  wait_for_copies<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t query = query0 + row + lane / 4 + half * 8;
    const float total = quad_sum(sum[half]), inverse = total > 0 ? 1 / total : 0.0f;
    if (query >= s.q_len) continue;
    T* to = at.queries(s, a.out) + query * s.q_row_stride;
#pragma unroll
    for (int d = 0; d < kSteps * 2; ++d) {
      store_two(to, out[d][2 * half] * inverse, out[d][2 * half + 1] * inverse, d * 8 + lane % 4 * 2, s.head_dim,
                Mode::overwrite);
    }
    if (lane % 4 == 0) a.lse[at.statistics(s) + query] = total > 0 ? largest[half] + __logf(total) : -INFINITY;
  }
}

// ---------------------------------------------------------------- backward

/// x = exp(x - lse) where the query sees the key, else 0; kOwnIsQuery: rows of x are queries, columns keys.
template <bool kOwnIsQuery, int kTiles>
__device__ inline void probabilities(float (&x)[kTiles][4], const AttentionShape& s, const AttentionMask& m,
                                     const Head& at, const float* lse, int64_t own0, int64_t other0, bool all) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t own = own0 + lane / 4 + e / 2 * 8, other = other0 + j * 8 + lane % 4 * 2 + e % 2;
      const int64_t query = kOwnIsQuery ? own : other, key = kOwnIsQuery ? other : own;
      const bool seen = all || sees(s, m, at.batch, query, key);
      x[j][e] = seen ? __expf(x[j][e] - lse[query]) : 0.0f;
    }
  }
}

/// dx = x · (dx - delta of the query).
template <bool kOwnIsQuery, int kTiles>
__device__ inline void score_gradients(float (&dx)[kTiles][4], const float (&x)[kTiles][4], const AttentionShape& s,
                                       const float* delta, int64_t own0, int64_t other0) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int64_t query = kOwnIsQuery ? own0 + lane / 4 + e / 2 * 8 : other0 + j * 8 + lane % 4 * 2 + e % 2;
      dx[j][e] = query < s.q_len ? x[j][e] * (dx[j][e] - delta[query]) : 0.0f;
    }
  }
}

/// Writes 16 rows of a gradient.
template <class T, int kSteps>
__device__ inline void store_rows(T* rows, int64_t row_stride, int64_t first, int64_t length, int64_t dims,
                                  const float (&y)[kSteps * 2][4], Mode mode) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = first + lane / 4 + half * 8;
    if (row >= length) continue;
#pragma unroll
    for (int d = 0; d < kSteps * 2; ++d)
      store_two(rows + row * row_stride, y[d][2 * half], y[d][2 * half + 1], d * 8 + lane % 4 * 2, dims, mode);
  }
}

/// dk and dv of 64 keys: over all queries, 32 at a time, in order.
template <class T, int kSteps>
__global__ void __launch_bounds__(kAttentionThreads)
    keys_mma_kernel(AttentionBackward<T> a, const float* delta, bool aligned) {
  constexpr int kQueries = 32, kTiles = kQueries / 8;
  using Own = HeadTile<kOwnRows, kSteps>;
  using Other = HeadTile<kQueries, kSteps>;
  extern __shared__ __align__(128) char shared[];
  const AttentionShape& s = a.shape;
  const Head at(s);
  const uint32_t k = shared_address(shared), v = k + Own::kBytes, stages = v + Own::kBytes;
  const int64_t key0 = static_cast<int64_t>(blockIdx.x) * kOwnRows;
  const int row = threadIdx.x / 32 * 16;
  const auto load = [&](int64_t query0, int stage) {
    const uint32_t q = stages + stage * 2 * Other::kBytes;
    load_rows<T, kQueries, kSteps>(q, at.queries(s, a.q), s.q_row_stride, query0, s.q_len, s.head_dim, aligned);
    load_rows<T, kQueries, kSteps>(q + Other::kBytes, at.queries(s, a.dout), s.q_row_stride, query0, s.q_len,
                                   s.head_dim, aligned);
  };
  load_rows<T, kOwnRows, kSteps>(k, at.keys(s, a.k), s.kv_row_stride, key0, s.k_len, s.head_dim, aligned);
  load_rows<T, kOwnRows, kSteps>(v, at.keys(s, a.v), s.kv_row_stride, key0, s.k_len, s.head_dim, aligned);
  const QueriesThatSee seeing(s, a.mask, at.batch, key0, kOwnRows, kQueries);
  if (seeing.begin < seeing.end) load(seeing.begin, 0);
  commit_copies();
  const float *lse = a.lse + at.statistics(s), *d = delta + at.statistics(s);
  float dk[kSteps * 2][4] = {}, dv[kSteps * 2][4] = {};
  int stage = 0;
  for (int64_t query0 = seeing.begin; query0 < seeing.end; query0 += kQueries, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    if (query0 + kQueries < seeing.end) load(query0 + kQueries, stage ^ 1);
    commit_copies();
    const uint32_t q = stages + stage * 2 * Other::kBytes, dout = q + Other::kBytes;
    float x[kTiles][4], dx[kTiles][4];
    row_products<T, kSteps, kTiles, Own, Other>(x, k, row, q);
    const FirstKeys first(s, a.mask, at.batch, query0, kQueries);
    probabilities<false>(x, s, a.mask, at, lse, key0 + row, query0,
                         all_see(s, a.mask, first, query0, kQueries, key0, kOwnRows));
    add_weighted_rows<T, kSteps, kTiles, Other>(dv, x, dout);
    row_products<T, kSteps, kTiles, Own, Other>(dx, v, row, dout);
    score_gradients<false>(dx, x, s, d, key0 + row, query0);
    add_weighted_rows<T, kSteps, kTiles, Other>(dk, dx, q);
  }
  wait_for_copies<0>();
  store_rows<T, kSteps>(at.keys(s, a.dk), s.kv_row_stride, key0 + row, s.k_len, s.head_dim, dk, a.dk_mode);
  store_rows<T, kSteps>(at.keys(s, a.dv), s.kv_row_stride, key0 + row, s.k_len, s.head_dim, dv, a.dv_mode);
}

/// dq of 64 queries: over all keys, 32 at a time, in order.
template <class T, int kSteps>
__global__ void __launch_bounds__(kAttentionThreads)
    queries_mma_kernel(AttentionBackward<T> a, const float* delta, bool aligned) {
  constexpr int kKeys = 32, kTiles = kKeys / 8;
  using Own = HeadTile<kOwnRows, kSteps>;
  using Other = HeadTile<kKeys, kSteps>;
  extern __shared__ __align__(128) char shared[];
  const AttentionShape& s = a.shape;
  const Head at(s);
  const uint32_t q = shared_address(shared), dout = q + Own::kBytes, stages = dout + Own::kBytes;
  const int64_t query0 = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * kOwnRows;
  const int row = threadIdx.x / 32 * 16;
  const int64_t key_end = keys_seen(s, a.mask, query0, kOwnRows);
  const FirstKeys first(s, a.mask, at.batch, query0, kOwnRows);
  const int64_t key_begin = first.first_tile(kKeys);
  const auto load = [&](int64_t key0, int stage) {
    const uint32_t k = stages + stage * 2 * Other::kBytes;
    load_rows<T, kKeys, kSteps>(k, at.keys(s, a.k), s.kv_row_stride, key0, s.k_len, s.head_dim, aligned);
    load_rows<T, kKeys, kSteps>(k + Other::kBytes, at.keys(s, a.v), s.kv_row_stride, key0, s.k_len, s.head_dim,
                                aligned);
  };
  load_rows<T, kOwnRows, kSteps>(q, at.queries(s, a.q), s.q_row_stride, query0, s.q_len, s.head_dim, aligned);
  load_rows<T, kOwnRows, kSteps>(dout, at.queries(s, a.dout), s.q_row_stride, query0, s.q_len, s.head_dim, aligned);
  if (key_begin < key_end) load(key_begin, 0);
  commit_copies();
  const float *lse = a.lse + at.statistics(s), *d = delta + at.statistics(s);
  float dq[kSteps * 2][4] = {};
  int stage = 0;
  for (int64_t key0 = key_begin; key0 < key_end; key0 += kKeys, stage ^= 1) {
    wait_for_copies<0>();
    __syncthreads();
    if (key0 + kKeys < key_end) load(key0 + kKeys, stage ^ 1);
    commit_copies();
    const uint32_t k = stages + stage * 2 * Other::kBytes;
    float x[kTiles][4], dx[kTiles][4];
    row_products<T, kSteps, kTiles, Own, Other>(x, q, row, k);
    probabilities<true>(x, s, a.mask, at, lse, query0 + row, key0,
                        all_see(s, a.mask, first, query0, kOwnRows, key0, kKeys));
    row_products<T, kSteps, kTiles, Own, Other>(dx, dout, row, k + Other::kBytes);
    score_gradients<true>(dx, x, s, d, query0 + row, key0);
    add_weighted_rows<T, kSteps, kTiles, Other>(dq, dx, k);
  }
  wait_for_copies<0>();
  store_rows<T, kSteps>(at.queries(s, a.dq), s.q_row_stride, query0 + row, s.q_len, s.head_dim, dq, a.dq_mode);
}

/// Shared memory of the kernels above: `own` tiles of 64 rows and two stages of two tiles of `others` rows.
template <int kSteps>
constexpr int attention_mma_bytes(int own, int others) {
  return (own * kOwnRows + 4 * others) * (kSteps <= 4 ? 64 : 128) * 2;
}

}  // namespace moeut::kernels::cuda
