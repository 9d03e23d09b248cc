#include "kernels/cross_entropy.h"

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

/// A block for each row.
template <class T>
__global__ void __launch_bounds__(kThreads) forward_kernel(CrossEntropyForward<T> a) {
  const int64_t row = blockIdx.x;
  using W = Wide<T>;
  const T* logits = a.logits + row * a.ld_logits;
  W largest = minus_infinity<W>();
  for (int64_t v = threadIdx.x; v < a.vocabulary; v += kThreads) largest = max(largest, W(logits[v]));
  largest = block_max(largest);
  W sum = 0;
  for (int64_t v = threadIdx.x; v < a.vocabulary; v += kThreads) sum += exp(W(logits[v]) - largest);
  sum = block_sum(sum);
  if (threadIdx.x != 0) return;
  const W lse = largest + log(sum);
  const int32_t target = a.target[row];
  a.lse[row] = lse;
  a.row_loss[row] = target < 0 ? W(0) : lse - W(logits[target]);
}

/// One block, in float64: each thread a stride of rows, then the threads in order.
template <class T>
__global__ void __launch_bounds__(1024) total_kernel(int64_t rows, double scale, const T* row_loss, T* loss) {
  double sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) sum += static_cast<double>(row_loss[row]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) *loss = static_cast<T>(scale * sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads) backward_kernel(CrossEntropyBackward<T> a) {
  const int64_t row = blockIdx.x;
  using W = Wide<T>;
  const T* logits = a.logits + row * a.ld_logits;
  const W lse = a.lse[row];
  T* dlogits = a.dlogits + row * a.ld_dlogits;
  const int32_t target = a.target[row];
  const W factor = target < 0 ? W(0) : *a.dloss * static_cast<W>(a.scale);
  for (int64_t v = threadIdx.x; v < a.vocabulary; v += kThreads) {
    const W p = exp(W(logits[v]) - lse);
    store(dlogits + v, target < 0 ? W(0) : factor * (v == target ? p - W(1) : p), a.mode);
  }
}

}  // namespace

template <class T>
void cross_entropy_forward(Cuda, const Launch& launch, const CrossEntropyForward<T>& args) {
  if (args.rows > 0) {
    forward_kernel<T><<<static_cast<unsigned>(args.rows), kThreads, 0, stream_of(launch)>>>(args);
    check_launch("cross_entropy_forward");
  }
  total_kernel<Wide<T>><<<1, 1024, 0, stream_of(launch)>>>(args.rows, args.scale, args.row_loss, args.loss);
  check_launch("cross_entropy_forward: total");
}

template <class T>
void cross_entropy_backward(Cuda, const Launch& launch, const CrossEntropyBackward<T>& args) {
  if (args.rows == 0) return;
  backward_kernel<T><<<static_cast<unsigned>(args.rows), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("cross_entropy_backward");
}

#define MOEUT_INSTANTIATE(T)                                                                  \
  template void cross_entropy_forward<T>(Cuda, const Launch&, const CrossEntropyForward<T>&); \
  template void cross_entropy_backward<T>(Cuda, const Launch&, const CrossEntropyBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
