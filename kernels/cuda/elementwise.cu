#include "kernels/elementwise.h"

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

template <class T>
__global__ void scale_copy_kernel(int64_t n, T scale, const T* x, T* y, Mode mode) {
  for (int64_t i = first_element(); i < n; i += element_step()) store(y + i, scale * x[i], mode);
}

template <class T>
__global__ void add_kernel(int64_t n, const T* a, const T* b, T* y) {
  for (int64_t i = first_element(); i < n; i += element_step()) y[i] = a[i] + b[i];
}

template <class T>
__global__ void add_bias_kernel(int64_t rows, int64_t n, const T* bias, T* y, int64_t ldy) {
  for (int64_t i = first_element(); i < rows * n; i += element_step()) y[i / n * ldy + i % n] += bias[i % n];
}

template <class T>
__global__ void dropout_kernel(Dropout<T> a) {
  const RngState rng = *a.rng;
  const T scale = T(1) / (T(1) - static_cast<T>(a.p));
  for (int64_t i = first_element(); i < a.sequences * a.n; i += element_step()) {
    const auto sequence = static_cast<uint64_t>(i / a.n), element = static_cast<uint64_t>(i % a.n);
    const bool kept = static_cast<double>(dropout_uniform(rng, sequence, a.site, element)) >= a.p;
    store(a.y + i, kept ? scale * a.x[i] : T(0), a.mode);
  }
}

template <class T>
__global__ void head_gate_kernel(int64_t n, int64_t head_dim, const T* x, const T* logit, T* y) {
  for (int64_t i = first_element(); i < n; i += element_step()) y[i] = sigmoid(logit[i / head_dim]) * x[i];
}

/// A warp for each (row, head).
template <class T>
__global__ void head_gate_backward_kernel(HeadGateBackward<T> a) {
  const int lane = threadIdx.x % 32;
  const int64_t warps = element_step() / 32;
  for (int64_t row = first_element() / 32; row < a.rows * a.heads; row += warps) {
    const T p = sigmoid(a.logit[row]);
    T dot = 0;
    for (int64_t j = lane; j < a.head_dim; j += 32) {
      const T dy = a.dy[row * a.head_dim + j];
      dot += dy * a.x[row * a.head_dim + j];
      if (a.dx != nullptr) store(a.dx + row * a.head_dim + j, p * dy, a.dx_mode);
    }
    dot = warp_sum(dot);
    if (lane == 0 && a.dlogit != nullptr) store(a.dlogit + row, p * (T(1) - p) * dot, a.dlogit_mode);
  }
}

}  // namespace

template <class T>
void scale_copy(Cuda, const Launch& launch, int64_t n, T scale, const T* x, T* y, Mode mode) {
  if (n == 0) return;
  scale_copy_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, scale, x, y, mode);
  check_launch("scale_copy");
}

template <class T>
void add(Cuda, const Launch& launch, int64_t n, const T* a, const T* b, T* y) {
  if (n == 0) return;
  add_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, a, b, y);
  check_launch("add");
}

template <class T>
void add_bias(Cuda, const Launch& launch, int64_t rows, int64_t n, const T* bias, T* y, int64_t ldy) {
  if (rows * n == 0) return;
  add_bias_kernel<T><<<grid_for(rows * n, kThreads), kThreads, 0, stream_of(launch)>>>(rows, n, bias, y, ldy);
  check_launch("add_bias");
}

template <class T>
void dropout(Cuda, const Launch& launch, const Dropout<T>& args) {
  if (args.sequences * args.n == 0) return;
  dropout_kernel<T><<<grid_for(args.sequences * args.n, kThreads), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("dropout");
}

template <class T>
void head_gate_forward(Cuda, const Launch& launch, int64_t rows, int64_t heads, int64_t head_dim, const T* x,
                       const T* logit, T* y) {
  const int64_t n = rows * heads * head_dim;
  if (n == 0) return;
  head_gate_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, head_dim, x, logit, y);
  check_launch("head_gate_forward");
}

template <class T>
void head_gate_backward(Cuda, const Launch& launch, const HeadGateBackward<T>& args) {
  const int64_t warps = args.rows * args.heads;
  if (warps == 0) return;
  head_gate_backward_kernel<T><<<grid_for(warps * 32, kThreads), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("head_gate_backward");
}

#define MOEUT_INSTANTIATE(T)                                                                                     \
  template void scale_copy<T>(Cuda, const Launch&, int64_t, T, const T*, T*, Mode);                              \
  template void add<T>(Cuda, const Launch&, int64_t, const T*, const T*, T*);                                    \
  template void add_bias<T>(Cuda, const Launch&, int64_t, int64_t, const T*, T*, int64_t);                       \
  template void dropout<T>(Cuda, const Launch&, const Dropout<T>&);                                              \
  template void head_gate_forward<T>(Cuda, const Launch&, int64_t, int64_t, int64_t, const T*, const T*, T*);    \
  template void head_gate_backward<T>(Cuda, const Launch&, const HeadGateBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
