#include "kernels/elementwise.h"

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

template <class T>
__global__ void fill_kernel(int64_t n, T value, T* y) {
  for (int64_t i = first_element(); i < n; i += element_step()) y[i] = value;
}

template <class T>
__global__ void scale_copy_kernel(int64_t n, Wide<T> scale, const T* x, T* y, Mode mode) {
  for (int64_t i = first_element(); i < n; i += element_step()) store(y + i, scale * Wide<T>(x[i]), mode);
}

template <class From, class To>
__global__ void cast_kernel(int64_t n, const From* x, To* y, Mode mode) {
  for (int64_t i = first_element(); i < n; i += element_step()) store(y + i, Wide<To>(Wide<From>(x[i])), mode);
}

template <class From, class To>
__global__ void cast_rows_kernel(int64_t rows, int64_t width, const From* x, int64_t ldx, To* y, int64_t ldy) {
  for (int64_t i = first_element(); i < rows * width; i += element_step()) {
    const int64_t row = i / width, j = i % width;
    store(y + row * ldy + j, Wide<To>(Wide<From>(x[row * ldx + j])), Mode::overwrite);
  }
}

template <class T>
__global__ void add_kernel(int64_t n, const T* a, const T* b, T* y) {
  for (int64_t i = first_element(); i < n; i += element_step()) y[i] = T(Wide<T>(a[i]) + Wide<T>(b[i]));
}

template <class T>
__global__ void add_bias_kernel(int64_t rows, int64_t n, const Wide<T>* bias, T* y, int64_t ldy) {
  for (int64_t i = first_element(); i < rows * n; i += element_step())
    store(y + i / n * ldy + i % n, bias[i % n], Mode::accumulate);
}

template <class T>
__global__ void dropout_kernel(Dropout<T> a) {
  const RngState rng = *a.rng;
  using W = Wide<T>;
  const W scale = W(1) / (W(1) - static_cast<W>(a.p));
  for (int64_t i = first_element(); i < a.sequences * a.n; i += element_step()) {
    const auto sequence = static_cast<uint64_t>(i / a.n), element = static_cast<uint64_t>(i % a.n);
    const bool kept = static_cast<double>(dropout_uniform(rng, sequence, a.site, element)) >= a.p;
    store(a.y + i, kept ? scale * W(a.x[i]) : W(0), a.mode);
  }
}

template <class T>
__global__ void head_gate_kernel(int64_t n, int64_t head_dim, const T* x, const Wide<T>* logit, T* y) {
  for (int64_t i = first_element(); i < n; i += element_step()) y[i] = T(sigmoid(logit[i / head_dim]) * Wide<T>(x[i]));
}

/// A warp for each (row, head).
template <class T>
__global__ void head_gate_backward_kernel(HeadGateBackward<T> a) {
  const int lane = threadIdx.x % 32;
  const int64_t warps = element_step() / 32;
  for (int64_t row = first_element() / 32; row < a.rows * a.heads; row += warps) {
    using W = Wide<T>;
    const W p = sigmoid(a.logit[row]);
    W dot = 0;
    for (int64_t j = lane; j < a.head_dim; j += 32) {
      const W dy = a.dy[row * a.head_dim + j];
      dot += dy * W(a.x[row * a.head_dim + j]);
      if (a.dx != nullptr) store(a.dx + row * a.head_dim + j, p * dy, a.dx_mode);
    }
    dot = warp_sum(dot);
    if (lane == 0 && a.dlogit != nullptr) store(a.dlogit + row, p * (W(1) - p) * dot, a.dlogit_mode);
  }
}

}  // namespace

template <class T>
void fill(Cuda, const Launch& launch, int64_t n, T value, T* y) {
  if (n == 0) return;
  fill_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, value, y);
  check_launch("fill");
}

template <class T>
void scale_copy(Cuda, const Launch& launch, int64_t n, Wide<T> scale, const T* x, T* y, Mode mode) {
  if (n == 0) return;
  scale_copy_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, scale, x, y, mode);
  check_launch("scale_copy");
}

template <class From, class To>
void cast(Cuda, const Launch& launch, int64_t n, const From* x, To* y, Mode mode) {
  if (n == 0) return;
  cast_kernel<From, To><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, x, y, mode);
  check_launch("cast");
}

template <class From, class To>
void cast_rows(Cuda, const Launch& launch, int64_t rows, int64_t width, const From* x, int64_t ldx, To* y,
               int64_t ldy) {
  if (rows * width == 0) return;
  cast_rows_kernel<From, To>
      <<<grid_for(rows * width, kThreads), kThreads, 0, stream_of(launch)>>>(rows, width, x, ldx, y, ldy);
  check_launch("cast_rows");
}

template <class T>
void add(Cuda, const Launch& launch, int64_t n, const T* a, const T* b, T* y) {
  if (n == 0) return;
  add_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, a, b, y);
  check_launch("add");
}

template <class T>
void add_bias(Cuda, const Launch& launch, int64_t rows, int64_t n, const Wide<T>* bias, T* y, int64_t ldy) {
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
                       const Wide<T>* logit, T* y) {
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

template void fill<float>(Cuda, const Launch&, int64_t, float, float*);
template void fill<double>(Cuda, const Launch&, int64_t, double, double*);
#define MOEUT_INSTANTIATE(T)                                                                                        \
  template void scale_copy<T>(Cuda, const Launch&, int64_t, Wide<T>, const T*, T*, Mode);                           \
  template void add<T>(Cuda, const Launch&, int64_t, const T*, const T*, T*);                                       \
  template void add_bias<T>(Cuda, const Launch&, int64_t, int64_t, const Wide<T>*, T*, int64_t);                    \
  template void dropout<T>(Cuda, const Launch&, const Dropout<T>&);                                                 \
  template void head_gate_forward<T>(Cuda, const Launch&, int64_t, int64_t, int64_t, const T*, const Wide<T>*, T*); \
  template void head_gate_backward<T>(Cuda, const Launch&, const HeadGateBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE
#define MOEUT_INSTANTIATE(T)                                                          \
  template void cast<float, T>(Cuda, const Launch&, int64_t, const float*, T*, Mode); \
  template void cast<T, float>(Cuda, const Launch&, int64_t, const T*, float*, Mode); \
  template void cast_rows<float, T>(Cuda, const Launch&, int64_t, int64_t, const float*, int64_t, T*, int64_t);
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE
template void cast_rows<float, float>(Cuda, const Launch&, int64_t, int64_t, const float*, int64_t, float*, int64_t);

}  // namespace moeut::kernels
