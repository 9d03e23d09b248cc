#include "kernels/reduce.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vectors.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;

constexpr int64_t kSumRows = 128;  // of a block
constexpr int kSumLanes = 8;       // threads that share columns of a block

/// partial[b, j] = Σ over the rows i of block b of x[i, j]; kWidth columns a thread.
template <int kWidth, class T>
__global__ void __launch_bounds__(kSumThreads* kSumLanes)
    column_partials_kernel(int64_t rows, int64_t n, const T* x, int64_t ldx, Wide<T>* partial) {
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x) * kWidth;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kSumRows;
  const int64_t end = begin + kSumRows < rows ? begin + kSumRows : rows;
  Wide<T> sum[kWidth] = {}, value[kWidth];
  for (int64_t row = begin + threadIdx.y; row < end && column < n; row += kSumLanes) {
    load<kWidth>(x + row * ldx + column, value);
    for (int i = 0; i < kWidth; ++i) sum[i] += value[i];
  }
  sum_over_lanes<kSumLanes>(sum);
  if (threadIdx.y == 0 && column < n) cuda::store<kWidth>(partial + blockIdx.y * n + column, sum);
}

}  // namespace

template <class T>
size_t column_sum_workspace_bytes(Cuda, int64_t rows, int64_t n) {
  return static_cast<size_t>(ceil_div(rows, kSumRows) * n) * sizeof(Wide<T>);
}

template <class T>
void column_sum(Cuda, const Launch& launch, int64_t rows, int64_t n, const T* x, int64_t ldx, Wide<T>* out, Mode mode) {
  if (n == 0) return;
  auto* partial = static_cast<Wide<T>*>(launch.workspace);
  const int64_t blocks = ceil_div(rows, kSumRows);
  if (blocks > 65535) throw BackendError("column_sum: more than 8388480 rows");
  if (blocks > 0) {
    constexpr int kWidest = 16 / sizeof(T);
    const bool vectors = n % kWidest == 0 && holds_vectors<kWidest>(x, ldx);
    const int64_t columns = int64_t{kSumThreads} * (vectors ? kWidest : 1);
    const dim3 grid(static_cast<unsigned>(ceil_div(n, columns)), static_cast<unsigned>(blocks));
    auto* kernel = vectors ? column_partials_kernel<kWidest, T> : column_partials_kernel<1, T>;
    kernel<<<grid, dim3(kSumThreads, kSumLanes), 0, stream_of(launch)>>>(rows, n, x, ldx, partial);
    check_launch("column_sum");
  }
  column_totals(launch, blocks, n, partial, n, out, mode);
}

#define MOEUT_INSTANTIATE(T)                                             \
  template size_t column_sum_workspace_bytes<T>(Cuda, int64_t, int64_t); \
  template void column_sum<T>(Cuda, const Launch&, int64_t, int64_t, const T*, int64_t, Wide<T>*, Mode);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
