// Sums over the rows of a matrix: kernels make the sums of fixed blocks of rows, which are added here in a fixed order,
// so that the bits depend on nothing else.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

constexpr int kSumThreads = 32;  // beside each other in a row
constexpr int kTotalLanes = 32;  // that share a column of the blocks' sums

/// The sums over the kLanes threads that share kWidth columns, in order; for the first of them. All threads of a block
/// of (kSumThreads, kLanes) must call it, once.
template <int kLanes, int kWidth, class T>
__device__ inline void sum_over_lanes(T (&sum)[kWidth]) {
  __shared__ T sums[kLanes][kSumThreads][kWidth];
  for (int i = 0; i < kWidth; ++i) sums[threadIdx.y][threadIdx.x][i] = sum[i];
  __syncthreads();
  if (threadIdx.y != 0) return;
  for (int lane = 1; lane < kLanes; ++lane) {
    for (int i = 0; i < kWidth; ++i) sum[i] += sums[lane][threadIdx.x][i];
  }
}

template <class T>
__global__ void __launch_bounds__(kSumThreads* kTotalLanes)
    column_totals_kernel(int64_t blocks, int64_t n, const T* partial, int64_t ld, T* out, Mode mode) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
  T sum[1] = {};
  if (column < n) {
    for (int64_t b = threadIdx.y; b < blocks; b += kTotalLanes) sum[0] += partial[b * ld + column];
  }
  sum_over_lanes<kTotalLanes>(sum);
  if (threadIdx.y == 0 && column < n) store(out + column, sum[0], mode);
}

/// out[j] = Σ_b partial[b, j], j < n; rows of partial are ld apart.
template <class T>
void column_totals(const Launch& launch, int64_t blocks, int64_t n, const T* partial, int64_t ld, T* out, Mode mode) {
  if (n == 0) return;
  const auto grid = static_cast<unsigned>(ceil_div(n, kSumThreads));
  column_totals_kernel<T>
      <<<grid, dim3(kSumThreads, kTotalLanes), 0, stream_of(launch)>>>(blocks, n, partial, ld, out, mode);
  check_launch("column_totals");
}

}  // namespace moeut::kernels::cuda
