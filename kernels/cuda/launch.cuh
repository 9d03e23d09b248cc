// What every launcher shares: streams, checked launches, reductions of a warp and a block.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cuda/std/limits>
#include <string>

#include "core/dtype.h"
#include "core/error.h"
#include "core/launch.h"

namespace moeut::kernels::cuda {

inline cudaStream_t stream_of(const Launch& launch) {
  return static_cast<cudaStream_t>(launch.stream == nullptr ? backend::compute_stream() : launch.stream);
}

/// Throws BackendError if the launch that came just before was refused.
inline void check_launch(const char* kernel) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess) throw BackendError(std::string(kernel) + ": cuda: " + cudaGetErrorString(status));
}

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

/// Blocks of a grid-stride loop over n elements.
inline unsigned grid_for(int64_t n, int threads) {
  constexpr int64_t kMost = 132 * 16;
  const int64_t blocks = ceil_div(n, threads);
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks < kMost ? blocks : kMost);
}

/// First element and step of a grid-stride loop.
__device__ inline int64_t first_element() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline int64_t element_step() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}

template <class T>
__device__ inline void store(T* place, Wide<T> value, Mode mode) {
  *place = T(mode == Mode::accumulate ? Wide<T>(*place) + value : value);
}

constexpr unsigned kAllLanes = 0xffffffffu;

/// Every lane gets the sum over the warp, always added in the same order.
template <class T>
__device__ inline T warp_sum(T x) {
  for (int distance = 16; distance > 0; distance /= 2) x += __shfl_xor_sync(kAllLanes, x, distance);
  return x;
}
template <class T>
__device__ inline T warp_max(T x) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(kAllLanes, x, distance);
    x = other > x ? other : x;
  }
  return x;
}

/// The same over a block of at most 1024 threads; all threads must call it.
template <class T>
__device__ inline T block_sum(T x) {
  __shared__ T parts[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
  x = warp_sum(x);
  __syncthreads();  // an earlier call may still be reading
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  return warp_sum(lane < warps ? parts[lane] : T(0));
}
template <class T>
__device__ inline T block_max(T x) {
  __shared__ T parts[32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = (blockDim.x + 31) / 32;
  x = warp_max(x);
  __syncthreads();
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  return warp_max(lane < warps ? parts[lane] : parts[0]);
}

template <class T>
__device__ inline T minus_infinity() {
  constexpr T kInfinity = ::cuda::std::numeric_limits<T>::infinity();
  return -kInfinity;
}

template <class T>
__device__ inline T sigmoid(T x) {
  return T(1) / (T(1) + exp(-x));
}

}  // namespace moeut::kernels::cuda
