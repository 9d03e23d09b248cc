// Cross-entropy: a block for each row, which comes from memory once: what is read of it again lies in the cache.
#include "kernels/cross_entropy.h"

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vectors.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

/// Elements of an access of 16 bytes.
template <class T>
constexpr int kWidest = 16 / sizeof(T);

/// Relative errors of the fast exponential, some 1e-6, are far below those of a narrow format.
template <class T>
__device__ inline Wide<T> exp_of(Wide<T> x) {
  if constexpr (kIsNarrow<T>) {
    return __expf(x);
  } else {
    return exp(x);
  }
}

/// Σ exp(x) of what a thread has seen, as sum · exp(largest).
template <class T>
struct OnlineSum {
  Wide<T> largest = minus_infinity<Wide<T>>(), sum = 0;

  template <int kWidth>
  __device__ void add(const Wide<T> (&x)[kWidth]) {
    Wide<T> now = largest;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) now = max(now, x[i]);
    if (now == minus_infinity<Wide<T>>()) return;  // -inf - -inf is no number
    sum *= exp_of<T>(largest - now);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum += exp_of<T>(x[i] - now);
    largest = now;
  }
};

/// log Σ exp of a row, for every thread.
template <class T, int kWidth>
__device__ Wide<T> log_sum_exp(const T* row, int64_t n) {
  OnlineSum<T> seen;
#pragma unroll 4
  for (int64_t v = threadIdx.x * kWidth; v < n; v += kThreads * kWidth) {
    Wide<T> x[kWidth];
    load<kWidth>(row + v, x);
    seen.add(x);
  }
  const Wide<T> largest = block_max(seen.largest);
  return largest + log(block_sum(seen.sum * exp_of<T>(seen.largest - largest)));
}

/// dx = factor · (exp(x - lse) - [v = target]), 0 where the target is ignored.
template <class T, int kWidth>
__device__ void write_gradient(const T* row, int64_t n, int32_t target, Wide<T> lse, Wide<T> factor, T* dx, Mode mode) {
#pragma unroll 4
  for (int64_t v = threadIdx.x * kWidth; v < n; v += kThreads * kWidth) {
    Wide<T> x[kWidth], d[kWidth] = {};
    load<kWidth>(row + v, x);
    if (mode == Mode::accumulate) load<kWidth>(dx + v, d);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if (target >= 0) d[i] += factor * (exp_of<T>(x[i] - lse) - (v + i == target ? 1 : 0));
    }
    cuda::store<kWidth>(dx + v, d);
  }
}

template <class W>
__device__ W factor_of(const W* dloss, double scale) {
  return (dloss == nullptr ? W(1) : *dloss) * static_cast<W>(scale);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) forward_kernel(CrossEntropyForward<T> a) {
  const int64_t row = blockIdx.x;
  const T* logits = a.logits + row * a.ld_logits;
  const int32_t target = a.target[row];
  const Wide<T> chosen = target < 0 ? 0 : Wide<T>(logits[target]);  // before dlogits may take its place
  const Wide<T> lse = log_sum_exp<T, kWidth>(logits, a.vocabulary);
  if (threadIdx.x == 0) {
    a.lse[row] = lse;
    a.row_loss[row] = target < 0 ? 0 : lse - chosen;
  }
  if (a.dlogits == nullptr) return;
  write_gradient<T, kWidth>(logits, a.vocabulary, target, lse, factor_of(a.dloss, a.scale),
                            a.dlogits + row * a.ld_logits, Mode::overwrite);
}

/// One block, in float64: each thread a stride of rows, then the threads in order.
template <class W>
__global__ void __launch_bounds__(1024) total_kernel(int64_t rows, double scale, const W* row_loss, W* loss) {
  double sum = 0;
  for (int64_t row = threadIdx.x; row < rows; row += blockDim.x) sum += static_cast<double>(row_loss[row]);
  sum = block_sum(sum);
  if (threadIdx.x == 0) *loss = static_cast<W>(scale * sum);
}

template <class T, int kWidth>
__global__ void __launch_bounds__(kThreads) backward_kernel(CrossEntropyBackward<T> a) {
  const int64_t row = blockIdx.x;
  write_gradient<T, kWidth>(a.logits + row * a.ld_logits, a.vocabulary, a.target[row], a.lse[row],
                            factor_of(a.dloss, a.scale), a.dlogits + row * a.ld_dlogits, a.mode);
}

/// True if rows of `vocabulary` logits are whole vectors.
template <class T>
bool in_vectors(int64_t vocabulary, const T* logits, int64_t ld_logits, const T* dlogits, int64_t ld_dlogits) {
  constexpr int kWidth = kWidest<T>;
  return vocabulary % kWidth == 0 && holds_vectors<kWidth>(logits, ld_logits) &&
         holds_vectors<kWidth>(dlogits, ld_dlogits);
}

}  // namespace

template <class T>
void cross_entropy_forward(Cuda, const Launch& launch, const CrossEntropyForward<T>& args) {
  if (args.rows == 0) return;
  const bool vectors = in_vectors(args.vocabulary, args.logits, args.ld_logits, args.dlogits, args.ld_logits);
  auto* kernel = vectors ? forward_kernel<T, kWidest<T>> : forward_kernel<T, 1>;
  kernel<<<static_cast<unsigned>(args.rows), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("cross_entropy_forward");
}

template <class W>
void cross_entropy_total(Cuda, const Launch& launch, int64_t rows, double scale, const W* row_loss, W* loss) {
  total_kernel<W><<<1, 1024, 0, stream_of(launch)>>>(rows, scale, row_loss, loss);
  check_launch("cross_entropy_total");
}

template <class T>
void cross_entropy_backward(Cuda, const Launch& launch, const CrossEntropyBackward<T>& args) {
  if (args.rows == 0) return;
  const bool vectors = in_vectors(args.vocabulary, args.logits, args.ld_logits, args.dlogits, args.ld_dlogits);
  auto* kernel = vectors ? backward_kernel<T, kWidest<T>> : backward_kernel<T, 1>;
  kernel<<<static_cast<unsigned>(args.rows), kThreads, 0, stream_of(launch)>>>(args);
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
template void cross_entropy_total<float>(Cuda, const Launch&, int64_t, double, const float*, float*);
template void cross_entropy_total<double>(Cuda, const Launch&, int64_t, double, const double*, double*);

}  // namespace moeut::kernels
