#include "kernels/embedding.h"

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

template <class T>
__global__ void forward_kernel(int64_t n, int64_t width, const int32_t* token, const T* table, T* y) {
  for (int64_t i = first_element(); i < n * width; i += element_step())
    y[i] = table[token[i / width] * width + i % width];
}

/// A block for each row of the table: it looks through all tokens, kThreads at a time, and adds the rows of dy that are
/// its own in their order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(int64_t n, int64_t width, const int32_t* token, const T* dy, T* dtable, Mode mode) {
  __shared__ int32_t matches[kThreads];
  __shared__ int warp_counts[kThreads / 32];
  const int32_t own = static_cast<int32_t>(blockIdx.x);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  T* row = dtable + own * width;
  bool written = mode == Mode::accumulate;
  for (int64_t begin = 0; begin < n; begin += kThreads) {
    const int64_t i = begin + threadIdx.x;
    const bool match = i < n && token[i] == own;
    const unsigned votes = __ballot_sync(kAllLanes, match);
    if (!__syncthreads_or(match)) continue;
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int place = __popc(votes & ((1u << lane) - 1)), count = 0;
    for (int w = 0; w < kThreads / 32; ++w) {
      if (w < warp) place += warp_counts[w];
      count += warp_counts[w];
    }
    if (match) matches[place] = static_cast<int32_t>(threadIdx.x);
    __syncthreads();
    for (int64_t j = threadIdx.x; j < width; j += kThreads) {
      T sum = written ? row[j] : T(0);
      for (int m = 0; m < count; ++m) sum += dy[(begin + matches[m]) * width + j];
      row[j] = sum;
    }
    written = true;
  }
  if (written) return;
  for (int64_t j = threadIdx.x; j < width; j += kThreads) row[j] = T(0);
}

}  // namespace

template <class T>
void embedding_forward(Cuda, const Launch& launch, int64_t n, int64_t width, const int32_t* token, const T* table,
                       T* y) {
  if (n * width == 0) return;
  forward_kernel<T><<<grid_for(n * width, kThreads), kThreads, 0, stream_of(launch)>>>(n, width, token, table, y);
  check_launch("embedding_forward");
}

template <class T>
void embedding_backward(Cuda, const Launch& launch, int64_t n, int64_t width, int64_t vocabulary, const int32_t* token,
                        const T* dy, T* dtable, Mode mode) {
  if (vocabulary == 0) return;
  backward_kernel<T>
      <<<static_cast<unsigned>(vocabulary), kThreads, 0, stream_of(launch)>>>(n, width, token, dy, dtable, mode);
  check_launch("embedding_backward");
}

#define MOEUT_INSTANTIATE(T)                                                                                        \
  template void embedding_forward<T>(Cuda, const Launch&, int64_t, int64_t, const int32_t*, const T*, T*);          \
  template void embedding_backward<T>(Cuda, const Launch&, int64_t, int64_t, int64_t, const int32_t*, const T*, T*, \
                                      Mode);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
