// Layer normalisation: a block for each row, which it reads once and keeps in registers.
#include "kernels/layer_norm.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vectors.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;

constexpr int kElements = 8;       // of a row for each thread
constexpr int kMoreElements = 32;  // of a long row: partly in local memory, so that rows of any model fit
constexpr int kMostThreads = 512;
constexpr int64_t kMostPartials = 1024;  // about eight resident blocks for each of an H100's multiprocessors
constexpr int64_t kFewestRows = 4;       // of a partial sum

/// A thread's share of a row: kElements in vectors of kWidth, one block's width apart.
template <class W, int kWidth, int kElements>
struct Share {
  static constexpr int kCount = kElements / kWidth;
  W value[kCount][kWidth] = {};

  static __device__ int64_t begin(int vector) {
    return (static_cast<int64_t>(vector) * blockDim.x + threadIdx.x) * kWidth;
  }
  /// f(vector, place of its first element in the row) for the vectors that lie in a row of n.
  template <class F>
  static __device__ void each(int64_t n, F f) {
#pragma unroll
    for (int vector = 0; vector < kCount; ++vector) {
      if (begin(vector) < n) f(vector, begin(vector));
    }
  }
  /// f(vector, i) for their elements.
  template <class F>
  static __device__ void each_element(int64_t n, F f) {
    each(n, [&](int vector, int64_t) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) f(vector, i);
    });
  }
  template <class T>
  __device__ void read(const T* row, int64_t n) {
    each(n, [&](int vector, int64_t j) { load<kWidth>(row + j, value[vector]); });
  }
  template <class T>
  __device__ void write(T* row, int64_t n) const {
    each(n, [&](int vector, int64_t j) { cuda::store<kWidth>(row + j, value[vector]); });
  }
};

template <class T, int kWidth, int kElements>
__global__ void __launch_bounds__(kMostThreads) forward_kernel(LayerNormForward<T> a) {
  using W = Wide<T>;
  using Row = Share<W, kWidth, kElements>;
  const int64_t row = blockIdx.x;
  Row h, branch;
  h.read(a.x + row * a.ldx, a.n);
  if (a.branch != nullptr) branch.read(a.branch + row * a.ldx, a.n);
  W sum = 0, squares = 0;
  Row::each_element(a.n, [&](int v, int i) { sum += h.value[v][i] += branch.value[v][i]; });
  if (a.h != nullptr) h.write(a.h + row * a.ldx, a.n);
  if (a.narrow != nullptr) h.write(a.narrow + row * a.ldy, a.n);
  const W mean = block_sum(sum) / static_cast<W>(a.n);
  Row::each_element(a.n, [&](int v, int i) { squares += (h.value[v][i] - mean) * (h.value[v][i] - mean); });
  const W rstd = W(1) / sqrt(block_sum(squares) / static_cast<W>(a.n) + static_cast<W>(a.eps));
  Row weight, bias;
  weight.read(a.weight, a.n);
  bias.read(a.bias, a.n);
  Row::each_element(a.n, [&](int v, int i) {
    h.value[v][i] = (h.value[v][i] - mean) * rstd * weight.value[v][i] + bias.value[v][i];
  });
  h.write(a.y + row * a.ldy, a.n);
  if (threadIdx.x == 0) {
    a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

/// With g = dy · weight and x̂ = (x - mean) · rstd:  dx = dh + (dnarrow + rstd · (g - mean(g) - x̂ · mean(g · x̂))).
/// A block takes `block_rows` rows and keeps its part of dweight = Σ dy · x̂ and dbias = Σ dy, which go to
/// partial[block] (2, n).
template <class T, int kWidth, int kElements>
__global__ void __launch_bounds__(kMostThreads)
    backward_kernel(LayerNormBackward<T> a, int64_t block_rows, Wide<T>* partial) {
  using W = Wide<T>;
  using Row = Share<W, kWidth, kElements>;
  Row weight, dweight, dbias;
  weight.read(a.weight, a.n);
  const int64_t begin = blockIdx.x * block_rows;
  const int64_t end = begin + block_rows < a.rows ? begin + block_rows : a.rows;
  for (int64_t row = begin; row < end; ++row) {
    Row x, g, dh, dnarrow;
    x.read(a.x + row * a.ldx, a.n);
    g.read(a.dy + row * a.lddy, a.n);
    if (a.dh != nullptr) dh.read(a.dh + row * a.lddx, a.n);
    if (a.dnarrow != nullptr) dnarrow.read(a.dnarrow + row * a.lddy, a.n);
    const W mean = a.mean[row], rstd = a.rstd[row];
    W g_sum = 0, gx_sum = 0;
    Row::each_element(a.n, [&](int v, int i) {
      const W dy = g.value[v][i], normal = (x.value[v][i] - mean) * rstd;
      dweight.value[v][i] += dy * normal;
      dbias.value[v][i] += dy;
      x.value[v][i] = normal;
      g.value[v][i] = dy * weight.value[v][i];
      g_sum += g.value[v][i];
      gx_sum += g.value[v][i] * normal;
    });
    if (a.dx == nullptr) continue;
    const W g_mean = block_sum(g_sum) / static_cast<W>(a.n), gx_mean = block_sum(gx_sum) / static_cast<W>(a.n);
    Row::each_element(a.n, [&](int v, int i) {
      const W through_y = rstd * (g.value[v][i] - g_mean - x.value[v][i] * gx_mean);
      dh.value[v][i] += dnarrow.value[v][i] + through_y;
    });
    dh.write(a.dx + row * a.lddx, a.n);
  }
  if (partial == nullptr) return;
  dweight.write(partial + blockIdx.x * 2 * a.n, a.n);
  dbias.write(partial + (blockIdx.x * 2 + 1) * a.n, a.n);
}

int64_t rows_of_partial(int64_t rows) {
  const int64_t share = ceil_div(rows, kMostPartials);
  return share < kFewestRows ? kFewestRows : share;
}

/// The kernel for rows of n elements and the threads of a block.
template <class Kernel>
struct Choice {
  Kernel* kernel;
  unsigned threads;
};
template <class Kernel>
Choice<Kernel> choose(int64_t n, Kernel* few, Kernel* more) {
  constexpr int64_t kMost = kMostThreads * kMoreElements;
  if (n > kMost) {
    throw BackendError("layer_norm: rows of " + std::to_string(n) + " elements; on CUDA at most " +
                       std::to_string(kMost));
  }
  const bool is_long = n > kMostThreads * kElements;
  return {is_long ? more : few, static_cast<unsigned>(32 * ceil_div(n, 32 * (is_long ? kMoreElements : kElements)))};
}

template <class T>
bool in_fours(const LayerNormForward<T>& a) {
  return holds_vectors<4>(a.x, a.ldx) && holds_vectors<4>(a.branch, a.ldx) && holds_vectors<4>(a.h, a.ldx) &&
         holds_vectors<4>(a.y, a.ldy) && holds_vectors<4>(a.narrow, a.ldy) && holds_vectors<4>(a.weight, a.n) &&
         holds_vectors<4>(a.bias, a.n);
}
template <class T>
bool in_fours(const LayerNormBackward<T>& a) {
  return holds_vectors<4>(a.x, a.ldx) && holds_vectors<4>(a.dy, a.lddy) && holds_vectors<4>(a.dnarrow, a.lddy) &&
         holds_vectors<4>(a.dx, a.lddx) && holds_vectors<4>(a.dh, a.lddx) && holds_vectors<4>(a.weight, a.n);
}

}  // namespace

template <class T>
void layer_norm_forward(Cuda, const Launch& launch, const LayerNormForward<T>& args) {
  if (args.rows == 0) return;
  const auto [kernel, threads] =
      in_fours(args) ? choose(args.n, forward_kernel<T, 4, kElements>, forward_kernel<T, 4, kMoreElements>)
                     : choose(args.n, forward_kernel<T, 1, kElements>, forward_kernel<T, 1, kMoreElements>);
  kernel<<<static_cast<unsigned>(args.rows), threads, 0, stream_of(launch)>>>(args);
  check_launch("layer_norm_forward");
}

template <class T>
size_t layer_norm_backward_workspace_bytes(Cuda, int64_t rows, int64_t n) {
  return static_cast<size_t>(ceil_div(rows, rows_of_partial(rows)) * 2 * n) * sizeof(Wide<T>);
}

template <class T>
void layer_norm_backward(Cuda, const Launch& launch, const LayerNormBackward<T>& args) {
  const bool parameters = args.dweight != nullptr || args.dbias != nullptr;
  auto* partial = parameters ? static_cast<Wide<T>*>(launch.workspace) : nullptr;
  const int64_t block_rows = rows_of_partial(args.rows), blocks = ceil_div(args.rows, block_rows);
  if (blocks > 0) {
    const auto [kernel, threads] =
        in_fours(args) ? choose(args.n, backward_kernel<T, 4, kElements>, backward_kernel<T, 4, kMoreElements>)
                       : choose(args.n, backward_kernel<T, 1, kElements>, backward_kernel<T, 1, kMoreElements>);
    kernel<<<static_cast<unsigned>(blocks), threads, 0, stream_of(launch)>>>(args, block_rows, partial);
    check_launch("layer_norm_backward");
  }
  if (args.dweight != nullptr)
    column_totals(launch, blocks, args.n, partial, 2 * args.n, args.dweight, args.dweight_mode);
  if (args.dbias != nullptr)
    column_totals(launch, blocks, args.n, partial + args.n, 2 * args.n, args.dbias, args.dbias_mode);
}

#define MOEUT_INSTANTIATE(T)                                                            \
  template void layer_norm_forward<T>(Cuda, const Launch&, const LayerNormForward<T>&); \
  template size_t layer_norm_backward_workspace_bytes<T>(Cuda, int64_t, int64_t);       \
  template void layer_norm_backward<T>(Cuda, const Launch&, const LayerNormBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
