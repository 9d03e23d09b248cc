// Attention: cuDNN's where that applies, else with any mask, tile by tile with a running softmax; nothing of size
// Tq·Tk is kept. The gradients of keys and of queries are computed by two kernels, each owning what it writes: no
// atomics.
#include "kernels/attention.h"

#include <algorithm>
#include <initializer_list>
#include <type_traits>

#include "kernels/cuda/attention_fused.h"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;

// Tiles of 32 queries and 32 keys; 8 threads share a row of a tile.
constexpr int kTile = 32;
constexpr int kShare = 8;
constexpr int kThreads = kTile * kShare;
constexpr int kEach = kTile / kShare;
constexpr int kMostDims = 256;             // of a head
constexpr int kHeld = kMostDims / kShare;  // dims of a row that a thread holds

/// Rows [first, first + 32) of one (sequence, head), in shared memory; rows are an odd number of words apart.
template <class T>
__device__ inline void load_tile(Wide<T>* tile, int64_t dims, const T* base, int64_t row_stride, int64_t first,
                                 int64_t length) {
  for (int i = threadIdx.x; i < kTile * dims; i += kThreads) {
    const int64_t row = i / dims, dim = i % dims;
    tile[row * (dims + 1) + dim] = first + row < length ? Wide<T>(base[(first + row) * row_stride + dim]) : Wide<T>(0);
  }
}

template <class T>
__device__ inline T dot(const T* a, const T* b, int64_t dims) {
  T sum = 0;
  for (int64_t p = 0; p < dims; ++p) sum += a[p] * b[p];
  return sum;
}

/// Over the 8 threads of a row.
template <class T>
__device__ inline T share_sum(T x) {
  for (int distance = kShare / 2; distance > 0; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
  return x;
}
template <class T>
__device__ inline T share_max(T x) {
  for (int distance = kShare / 2; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, distance);
    x = other > x ? other : x;
  }
  return x;
}

/// One (sequence, head) and one tile of it.
struct Place {
  int64_t batch, head, first;
};
__device__ inline Place place_of(const AttentionShape& s) {
  return {blockIdx.y / s.heads, blockIdx.y % s.heads, static_cast<int64_t>(blockIdx.x) * kTile};
}
template <class T>
__device__ inline const T* of_queries(const AttentionShape& s, const T* base, const Place& at) {
  return base + at.batch * s.q_batch_stride + at.head * s.head_dim;
}
template <class T>
__device__ inline const T* of_keys(const AttentionShape& s, const T* base, const Place& at) {
  return base + at.batch * s.kv_batch_stride + at.head * s.head_dim;
}

template <class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(AttentionForward<T> a) {
  using W = Wide<T>;
  extern __shared__ char shared[];
  const AttentionShape& s = a.shape;
  const int64_t dims = s.head_dim, ld = dims + 1;
  W* q = reinterpret_cast<W*>(shared);
  W *k = q + kTile * ld, *v = k + kTile * ld, *p = v + kTile * ld;  // p: (32, 33)
  const Place at = place_of(s);
  const int row = threadIdx.x / kShare, part = threadIdx.x % kShare;
  const int64_t query = at.first + row;
  load_tile(q, dims, of_queries(s, a.q, at), s.q_row_stride, at.first, s.q_len);
  W largest = minus_infinity<W>(), sum = 0, out[kHeld] = {};
  const int64_t key_end = keys_seen(s, a.mask, at.first, kTile);
  const FirstKeys first(s, a.mask, at.batch, at.first, kTile);
  for (int64_t key0 = first.first_tile(kTile); key0 < key_end; key0 += kTile) {
    __syncthreads();
    load_tile(k, dims, of_keys(s, a.k, at), s.kv_row_stride, key0, s.k_len);
    load_tile(v, dims, of_keys(s, a.v, at), s.kv_row_stride, key0, s.k_len);
    __syncthreads();
    W score[kEach], top = largest;
    for (int i = 0; i < kEach; ++i) {
      const int column = part + i * kShare;
      score[i] = sees(s, a.mask, at.batch, query, key0 + column) ? dot(q + row * ld, k + column * ld, dims)
                                                                 : minus_infinity<W>();
      top = score[i] > top ? score[i] : top;
    }
    top = share_max(top);
    const W base = top == minus_infinity<W>() ? W(0) : top;  // nothing seen yet: every exponential below is 0
    const W keep = exp(largest - base);
    W added = 0;
    for (int i = 0; i < kEach; ++i) {
      const W e = exp(score[i] - base);
      p[row * (kTile + 1) + part + i * kShare] = e;
      added += e;
    }
    sum = sum * keep + share_sum(added);
    largest = top;
    __syncwarp();  // a row's 8 threads are in one warp
    for (int j = 0; j < kHeld && part + j * kShare < dims; ++j) {
      W value = out[j] * keep;
      for (int c = 0; c < kTile; ++c) value += p[row * (kTile + 1) + c] * v[c * ld + part + j * kShare];
      out[j] = value;
    }
  }
  if (query >= s.q_len) return;
  T* result = a.out + (of_queries(s, a.q, at) - a.q) + query * s.q_row_stride;
  for (int j = 0; j < kHeld && part + j * kShare < dims; ++j)
    result[part + j * kShare] = T(sum > W(0) ? out[j] / sum : W(0));
  if (part == 0)
    a.lse[(at.batch * s.heads + at.head) * s.q_len + query] = sum > W(0) ? largest + log(sum) : minus_infinity<W>();
}

/// delta[b, h, i] = ⟨dout, out⟩, by a warp.
template <class T>
__global__ void delta_kernel(AttentionBackward<T> a, Wide<T>* delta) {
  const AttentionShape& s = a.shape;
  const int lane = threadIdx.x % 32;
  for (int64_t i = first_element() / 32; i < s.batch * s.heads * s.q_len; i += element_step() / 32) {
    const int64_t query = i % s.q_len, head = i / s.q_len % s.heads, batch = i / s.q_len / s.heads;
    const int64_t at = batch * s.q_batch_stride + query * s.q_row_stride + head * s.head_dim;
    Wide<T> sum = 0;
    for (int64_t p = lane; p < s.head_dim; p += 32) sum += Wide<T>(a.dout[at + p]) * Wide<T>(a.out[at + p]);
    sum = warp_sum(sum);
    if (lane == 0) delta[i] = sum;
  }
}

/// exp(score - lse), 0 where the query does not see the key. lse is -inf for a query that sees none.
template <class T>
__device__ inline T probability(const AttentionShape& s, const AttentionMask& m, int64_t batch, int64_t query,
                                int64_t key, const T* q, const T* k, T lse) {
  return sees(s, m, batch, query, key) ? exp(dot(q, k, s.head_dim) - lse) : T(0);
}

/// dk and dv of 32 keys: over all tiles of queries in order.
template <class T>
__global__ void __launch_bounds__(kThreads) keys_kernel(AttentionBackward<T> a, const Wide<T>* delta) {
  using W = Wide<T>;
  extern __shared__ char shared[];
  const AttentionShape& s = a.shape;
  const int64_t dims = s.head_dim, ld = dims + 1;
  W* k = reinterpret_cast<W*>(shared);
  W *v = k + kTile * ld, *q = v + kTile * ld, *dout = q + kTile * ld;
  W *p = dout + kTile * ld, *ds = p + kTile * (kTile + 1);  // (key, query)
  const Place at = place_of(s);
  const int row = threadIdx.x / kShare, part = threadIdx.x % kShare;
  const int64_t key = at.first + row, head_row = (at.batch * s.heads + at.head) * s.q_len;
  load_tile(k, dims, of_keys(s, a.k, at), s.kv_row_stride, at.first, s.k_len);
  load_tile(v, dims, of_keys(s, a.v, at), s.kv_row_stride, at.first, s.k_len);
  W dk[kHeld] = {}, dv[kHeld] = {};
  const QueriesThatSee seeing(s, a.mask, at.batch, at.first, kTile, kTile);
  for (int64_t query0 = seeing.begin; query0 < seeing.end; query0 += kTile) {
    __syncthreads();
    load_tile(q, dims, of_queries(s, a.q, at), s.q_row_stride, query0, s.q_len);
    load_tile(dout, dims, of_queries(s, a.dout, at), s.q_row_stride, query0, s.q_len);
    __syncthreads();
    for (int i = 0; i < kEach; ++i) {
      const int column = part + i * kShare;
      const int64_t query = query0 + column;
      const W lse = query < s.q_len ? a.lse[head_row + query] : W(0);
      const W prob = probability(s, a.mask, at.batch, query, key, q + column * ld, k + row * ld, lse);
      const W d = query < s.q_len ? delta[head_row + query] : W(0);
      p[row * (kTile + 1) + column] = prob;
      ds[row * (kTile + 1) + column] = prob * (dot(dout + column * ld, v + row * ld, dims) - d);
    }
    __syncwarp();
    for (int j = 0; j < kHeld && part + j * kShare < dims; ++j) {
      const int dim = part + j * kShare;
      for (int c = 0; c < kTile; ++c) {
        dv[j] += p[row * (kTile + 1) + c] * dout[c * ld + dim];
        dk[j] += ds[row * (kTile + 1) + c] * q[c * ld + dim];
      }
    }
  }
  if (key >= s.k_len) return;
  const int64_t base = (of_keys(s, a.k, at) - a.k) + key * s.kv_row_stride;
  for (int j = 0; j < kHeld && part + j * kShare < dims; ++j) {
    store(a.dk + base + part + j * kShare, dk[j], a.dk_mode);
    store(a.dv + base + part + j * kShare, dv[j], a.dv_mode);
  }
}

/// dq of 32 queries: over all tiles of keys in order.
template <class T>
__global__ void __launch_bounds__(kThreads) queries_kernel(AttentionBackward<T> a, const Wide<T>* delta) {
  using W = Wide<T>;
  extern __shared__ char shared[];
  const AttentionShape& s = a.shape;
  const int64_t dims = s.head_dim, ld = dims + 1;
  W* k = reinterpret_cast<W*>(shared);
  W *v = k + kTile * ld, *q = v + kTile * ld, *dout = q + kTile * ld;
  W* ds = dout + kTile * ld;  // (query, key)
  const Place at = place_of(s);
  const int row = threadIdx.x / kShare, part = threadIdx.x % kShare;
  const int64_t query = at.first + row, head_row = (at.batch * s.heads + at.head) * s.q_len;
  load_tile(q, dims, of_queries(s, a.q, at), s.q_row_stride, at.first, s.q_len);
  load_tile(dout, dims, of_queries(s, a.dout, at), s.q_row_stride, at.first, s.q_len);
  const W lse = query < s.q_len ? a.lse[head_row + query] : W(0), d = query < s.q_len ? delta[head_row + query] : W(0);
  W dq[kHeld] = {};
  const int64_t key_end = keys_seen(s, a.mask, at.first, kTile);
  const FirstKeys first(s, a.mask, at.batch, at.first, kTile);
  for (int64_t key0 = first.first_tile(kTile); key0 < key_end; key0 += kTile) {
    __syncthreads();
    load_tile(k, dims, of_keys(s, a.k, at), s.kv_row_stride, key0, s.k_len);
    load_tile(v, dims, of_keys(s, a.v, at), s.kv_row_stride, key0, s.k_len);
    __syncthreads();
    for (int i = 0; i < kEach; ++i) {
      const int column = part + i * kShare;
      const W prob = probability(s, a.mask, at.batch, query, key0 + column, q + row * ld, k + column * ld, lse);
      ds[row * (kTile + 1) + column] = prob * (dot(dout + row * ld, v + column * ld, dims) - d);
    }
    __syncwarp();
    for (int j = 0; j < kHeld && part + j * kShare < dims; ++j) {
      for (int c = 0; c < kTile; ++c) dq[j] += ds[row * (kTile + 1) + c] * k[c * ld + part + j * kShare];
    }
  }
  if (query >= s.q_len) return;
  const int64_t base = (of_queries(s, a.q, at) - a.q) + query * s.q_row_stride;
  for (int j = 0; j < kHeld && part + j * kShare < dims; ++j) store(a.dq + base + part + j * kShare, dq[j], a.dq_mode);
}

/// Shared memory of `tiles` tiles of rows and `squares` of 32 x 33.
template <class T>
size_t shared_bytes(const AttentionShape& s, int tiles, int squares) {
  return static_cast<size_t>(tiles * kTile * (s.head_dim + 1) + squares * kTile * (kTile + 1)) * sizeof(Wide<T>);
}

void check_shape(const AttentionShape& s, size_t bytes) {
  constexpr size_t kMostShared = 227 << 10;  // of sm_90; 163 KiB on sm_80, which then refuses the launch
  if (s.head_dim > kMostDims || bytes > kMostShared)
    throw BackendError("attention: d_head " + std::to_string(s.head_dim) + " is too large for this CUDA kernel");
  if (s.batch * s.heads > 65535)
    throw BackendError("attention: " + std::to_string(s.batch * s.heads) + " (sequence, head) pairs; at most 65535");
}

template <class Kernel, class... Args>
void start(const char* name, Kernel* kernel, const AttentionShape& s, int64_t length, size_t bytes, cudaStream_t stream,
           Args... args) {
  check_shape(s, bytes);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
  const dim3 grid(static_cast<unsigned>(ceil_div(length, kTile)), static_cast<unsigned>(s.batch * s.heads));
  kernel<<<grid, kThreads, bytes, stream>>>(args...);
  check_launch(name);
}

// ---------------------------------------------------------------- tensor cores

/// Whether heads are in the reach of the tensor-core kernels.
template <class T>
bool fits_mma(const AttentionShape& s) {
  return sizeof(T) == 2 && s.head_dim <= 128 && s.head_dim % 2 == 0 && s.q_row_stride % 2 == 0 &&
         s.kv_row_stride % 2 == 0;
}

/// Whether rows of heads can be copied 16 bytes at a time.
bool is_aligned(const AttentionShape& s, std::initializer_list<const void*> pointers) {
  int64_t all = s.head_dim | s.q_row_stride | s.kv_row_stride | s.q_batch_stride | s.kv_batch_stride;
  for (const void* p : pointers) all |= static_cast<int64_t>(reinterpret_cast<uintptr_t>(p) / 2);
  return all % 8 == 0;
}

/// f(std::integral_constant<int, steps>) for heads of up to 16 · steps dims.
template <class F>
void with_steps(int64_t head_dim, F&& f) {
  if (head_dim <= 64) return f(std::integral_constant<int, 4>());
  if (head_dim <= 96) return f(std::integral_constant<int, 6>());
  f(std::integral_constant<int, 8>());
}

template <class Kernel, class... Args>
void start_mma(const char* name, Kernel* kernel, const AttentionShape& s, int64_t length, int bytes,
               cudaStream_t stream, Args... args) {
  check_shape(s, 0);
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  const dim3 grid(static_cast<unsigned>(ceil_div(length, kOwnRows)), static_cast<unsigned>(s.batch * s.heads));
  kernel<<<grid, kAttentionThreads, bytes, stream>>>(args...);
  check_launch(name);
}

template <class T>
void forward_mma(const AttentionForward<T>& args, cudaStream_t stream) {
  const bool aligned = is_aligned(args.shape, {args.q, args.k, args.v});
  with_steps(args.shape.head_dim, [&](auto steps) {
    start_mma("attention_forward", forward_mma_kernel<T, steps.value>, args.shape, args.shape.q_len,
              attention_mma_bytes<steps.value>(1, 64), stream, args, aligned);
  });
}

template <class T>
void backward_mma(const AttentionBackward<T>& args, const float* delta, cudaStream_t stream) {
  const bool aligned = is_aligned(args.shape, {args.q, args.k, args.v, args.dout});
  with_steps(args.shape.head_dim, [&](auto steps) {
    constexpr int kBytes = attention_mma_bytes<steps.value>(2, 32);
    start_mma("attention_backward: keys", keys_mma_kernel<T, steps.value>, args.shape, args.shape.k_len, kBytes, stream,
              args, delta, aligned);
    start_mma("attention_backward: queries", queries_mma_kernel<T, steps.value>, args.shape, args.shape.q_len, kBytes,
              stream, args, delta, aligned);
  });
}

bool is_empty(const AttentionShape& s) {
  return s.batch * s.heads * s.q_len == 0;
}

}  // namespace

template <class T>
size_t attention_forward_workspace_bytes(Cuda, const AttentionShape& s, const AttentionMask& mask) {
  if constexpr (sizeof(T) == 2) return is_empty(s) ? 0 : fused_forward_bytes<T>(s, mask);
  return 0;
}

template <class T>
void attention_forward(Cuda, const Launch& launch, const AttentionForward<T>& args) {
  const AttentionShape& s = args.shape;
  if (is_empty(s)) return;
  if constexpr (sizeof(T) == 2) {
    if (fused_forward(launch, args)) return;
    if (fits_mma<T>(s)) return forward_mma(args, stream_of(launch));
  }
  start("attention_forward", forward_kernel<T>, s, s.q_len, shared_bytes<T>(s, 3, 1), stream_of(launch), args);
}

template <class T>
size_t attention_backward_workspace_bytes(Cuda, const AttentionShape& s, const AttentionMask& mask) {
  const size_t delta = static_cast<size_t>(s.batch * s.heads * s.q_len) * sizeof(Wide<T>);
  if constexpr (sizeof(T) == 2) return is_empty(s) ? 0 : std::max(delta, fused_backward_bytes<T>(s, mask));
  return delta;
}

template <class T>
void attention_backward(Cuda, const Launch& launch, const AttentionBackward<T>& args) {
  const AttentionShape& s = args.shape;
  if (is_empty(s)) return;
  if constexpr (sizeof(T) == 2) {
    if (fused_backward(launch, args)) return;
  }
  auto* delta = static_cast<Wide<T>*>(launch.workspace);
  const cudaStream_t stream = stream_of(launch);
  delta_kernel<T><<<grid_for(s.batch * s.heads * s.q_len * 32, 256), 256, 0, stream>>>(args, delta);
  check_launch("attention_backward: delta");
  if constexpr (sizeof(T) == 2) {
    if (fits_mma<T>(s)) return backward_mma(args, delta, stream);
  }
  start("attention_backward: keys", keys_kernel<T>, s, s.k_len, shared_bytes<T>(s, 4, 2), stream, args,
        static_cast<const Wide<T>*>(delta));
  start("attention_backward: queries", queries_kernel<T>, s, s.q_len, shared_bytes<T>(s, 4, 1), stream, args,
        static_cast<const Wide<T>*>(delta));
}

#define MOEUT_INSTANTIATE(T)                                                                                \
  template size_t attention_forward_workspace_bytes<T>(Cuda, const AttentionShape&, const AttentionMask&);  \
  template void attention_forward<T>(Cuda, const Launch&, const AttentionForward<T>&);                      \
  template size_t attention_backward_workspace_bytes<T>(Cuda, const AttentionShape&, const AttentionMask&); \
  template void attention_backward<T>(Cuda, const Launch&, const AttentionBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
