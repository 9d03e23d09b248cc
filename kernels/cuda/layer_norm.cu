#include "kernels/layer_norm.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 128;

/// A block for each row.
template <class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(LayerNormForward<T> a) {
  const int64_t row = blockIdx.x;
  using W = Wide<T>;
  const W* x = a.x + row * a.ldx;
  W sum = 0;
  for (int64_t j = threadIdx.x; j < a.n; j += kThreads) sum += x[j];
  const W mean = block_sum(sum) / static_cast<W>(a.n);
  W squares = 0;
  for (int64_t j = threadIdx.x; j < a.n; j += kThreads) squares += (x[j] - mean) * (x[j] - mean);
  const W variance = block_sum(squares) / static_cast<W>(a.n);
  const W rstd = W(1) / sqrt(variance + static_cast<W>(a.eps));
  T* y = a.y + row * a.ldy;
  for (int64_t j = threadIdx.x; j < a.n; j += kThreads) y[j] = T((x[j] - mean) * rstd * a.weight[j] + a.bias[j]);
  if (threadIdx.x == 0) {
    a.mean[row] = mean;
    a.rstd[row] = rstd;
  }
}

/// With g = dy · weight and n = (x - mean) · rstd:  dx = rstd · (g - mean(g) - n · mean(g · n)).
template <class T>
__global__ void __launch_bounds__(kThreads) backward_kernel(LayerNormBackward<T> a) {
  const int64_t row = blockIdx.x;
  using W = Wide<T>;
  const W* x = a.x + row * a.ldx;
  const T* dy = a.dy + row * a.lddy;
  const W mean = a.mean[row], rstd = a.rstd[row];
  W g_sum = 0, gn_sum = 0;
  for (int64_t j = threadIdx.x; j < a.n; j += kThreads) {
    const W g = W(dy[j]) * a.weight[j];
    g_sum += g;
    gn_sum += g * (x[j] - mean) * rstd;
  }
  const W g_mean = block_sum(g_sum) / static_cast<W>(a.n);
  const W gn_mean = block_sum(gn_sum) / static_cast<W>(a.n);
  for (int64_t j = threadIdx.x; j < a.n; j += kThreads) {
    const W g = W(dy[j]) * a.weight[j], normalised = (x[j] - mean) * rstd;
    store(a.dx + row * a.lddx + j, rstd * (g - g_mean - normalised * gn_mean), a.dx_mode);
  }
}

/// One row's share of dweight.
template <class T>
struct WeightTerm {
  LayerNormBackward<T> a;
  __device__ Wide<T> operator()(int64_t row, int64_t j) const {
    return Wide<T>(a.dy[row * a.lddy + j]) * (a.x[row * a.ldx + j] - a.mean[row]) * a.rstd[row];
  }
};
template <class T>
struct BiasTerm {
  LayerNormBackward<T> a;
  __device__ Wide<T> operator()(int64_t row, int64_t j) const { return a.dy[row * a.lddy + j]; }
};

}  // namespace

template <class T>
void layer_norm_forward(Cuda, const Launch& launch, const LayerNormForward<T>& args) {
  if (args.rows == 0) return;
  forward_kernel<T><<<static_cast<unsigned>(args.rows), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("layer_norm_forward");
}

template <class T>
size_t layer_norm_backward_workspace_bytes(Cuda, int64_t rows, int64_t n) {
  return column_sums_workspace_bytes<Wide<T>>(rows, n);
}

template <class T>
void layer_norm_backward(Cuda, const Launch& launch, const LayerNormBackward<T>& args) {
  if (args.dx != nullptr && args.rows > 0) {
    backward_kernel<T><<<static_cast<unsigned>(args.rows), kThreads, 0, stream_of(launch)>>>(args);
    check_launch("layer_norm_backward");
  }
  // One after the other in the same workspace: the stream keeps them apart.
  auto* partial = static_cast<Wide<T>*>(launch.workspace);
  if (args.dweight != nullptr)
    column_sums(launch, args.rows, args.n, WeightTerm<T>{args}, partial, args.dweight, args.dweight_mode);
  if (args.dbias != nullptr)
    column_sums(launch, args.rows, args.n, BiasTerm<T>{args}, partial, args.dbias, args.dbias_mode);
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
