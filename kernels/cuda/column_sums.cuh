// Sums over the rows of a matrix: fixed blocks of rows, then the blocks in a fixed order, so that the bits depend on
// nothing else.
#pragma once

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

constexpr int64_t kSumRows = 128;  // of a block
constexpr int kSumColumns = 32;    // of a block
constexpr int kSumLanes = 8;       // threads that share a column of a block
constexpr int kTotalLanes = 32;    // threads that share a column of the blocks' sums

/// The sum over the threads that share a column, in order; for the first of them. All threads must call it.
template <int kLanes, class T>
__device__ inline T sum_over_lanes(T sum) {
  __shared__ T sums[kLanes][kSumColumns];
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  for (int lane = 1; lane < kLanes && threadIdx.y == 0; ++lane) sum += sums[lane][threadIdx.x];
  return sum;
}

/// partial[b, j] = Σ over the rows i of block b of f(i, j).
template <class T, class F>
__global__ void __launch_bounds__(kSumColumns* kSumLanes)
    column_partials_kernel(int64_t rows, int64_t n, F f, T* partial) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSumColumns + threadIdx.x;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kSumRows;
  const int64_t end = begin + kSumRows < rows ? begin + kSumRows : rows;
  T sum = 0;
  if (column < n) {
    for (int64_t row = begin + threadIdx.y; row < end; row += kSumLanes) sum += f(row, column);
  }
  sum = sum_over_lanes<kSumLanes>(sum);
  if (threadIdx.y == 0 && column < n) partial[blockIdx.y * n + column] = sum;
}

template <class T>
__global__ void __launch_bounds__(kSumColumns* kTotalLanes)
    column_totals_kernel(int64_t blocks, int64_t n, const T* partial, int64_t ld, T* out, Mode mode) {
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kSumColumns + threadIdx.x;
  T sum = 0;
  if (column < n) {
    for (int64_t b = threadIdx.y; b < blocks; b += kTotalLanes) sum += partial[b * ld + column];
  }
  sum = sum_over_lanes<kTotalLanes>(sum);
  if (threadIdx.y == 0 && column < n) store(out + column, sum, mode);
}

/// out[j] = Σ_b partial[b, j], j < n; rows of partial are ld apart.
template <class T>
void column_totals(const Launch& launch, int64_t blocks, int64_t n, const T* partial, int64_t ld, T* out, Mode mode) {
  const auto grid = static_cast<unsigned>(ceil_div(n, kSumColumns));
  column_totals_kernel<T>
      <<<grid, dim3(kSumColumns, kTotalLanes), 0, stream_of(launch)>>>(blocks, n, partial, ld, out, mode);
  check_launch("column_sums: totals");
}

template <class T>
size_t column_sums_workspace_bytes(int64_t rows, int64_t n) {
  return static_cast<size_t>(ceil_div(rows, kSumRows) * n) * sizeof(T);
}

/// out[j] = Σ_i f(i, j), j < n; f is a device functor. At most 65535 blocks of rows are launched at a time.
template <class T, class F>
void column_sums(const Launch& launch, int64_t rows, int64_t n, F f, T* partial, T* out, Mode mode) {
  if (n == 0) return;
  const int64_t blocks = ceil_div(rows, kSumRows);
  if (blocks > 65535) throw BackendError("column_sums: more than 8388480 rows");
  if (blocks > 0) {
    const dim3 grid(static_cast<unsigned>(ceil_div(n, kSumColumns)), static_cast<unsigned>(blocks));
    column_partials_kernel<T><<<grid, dim3(kSumColumns, kSumLanes), 0, stream_of(launch)>>>(rows, n, f, partial);
    check_launch("column_sums: partials");
  }
  column_totals(launch, blocks, n, partial, n, out, mode);
}

}  // namespace moeut::kernels::cuda
