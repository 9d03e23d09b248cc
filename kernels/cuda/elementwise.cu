#include "kernels/elementwise.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/vectors.cuh"

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

template <class T>
__global__ void scale_by_ratio_kernel(int64_t n, const Wide<T>* dividend, const Wide<T>* divisor, const T* x, T* y,
                                      Mode mode) {
  const Wide<T> scale = divisor == nullptr ? *dividend : *dividend / *divisor;
  for (int64_t i = first_element(); i < n; i += element_step()) store(y + i, scale * Wide<T>(x[i]), mode);
}

template <class From, class To>
__global__ void cast_kernel(int64_t n, const From* x, To* y, Mode mode) {
  for (int64_t i = first_element(); i < n; i += element_step()) store(y + i, Wide<To>(Wide<From>(x[i])), mode);
}

/// kWidth elements at a time, which lie either within x or wholly outside.
template <int kWidth, class From, class To>
__global__ void copy_padded_kernel(PaddedCopy<From, To> a) {
  using W = Wide<To>;
  const int64_t vectors = a.padded_width / kWidth;
  for (int64_t i = first_element(); i < a.padded_rows * vectors; i += element_step()) {
    const int64_t row = i / vectors, j = i % vectors * kWidth;
    W value[kWidth] = {}, before[kWidth] = {};
    if (row < a.rows && j < a.width) load<kWidth>(a.x + row * a.ldx + j, value);
    To* y = a.y + row * a.padded_width + j;
    if (a.mode == Mode::accumulate) load<kWidth>(y, before);
    for (int e = 0; e < kWidth; ++e) value[e] += before[e];
    store<kWidth>(y, value);
  }
}

template <class T>
__global__ void add_kernel(int64_t n, const T* a, const T* b, T* y) {
  for (int64_t i = first_element(); i < n; i += element_step()) y[i] = T(Wide<T>(a[i]) + Wide<T>(b[i]));
}

/// A thread keeps kWidth elements of the bias and goes down their columns.
template <int kWidth, class T>
__global__ void add_bias_kernel(int64_t rows, int64_t n, const Wide<T>* bias, T* y, int64_t ldy) {
  const int64_t column = first_element() * kWidth;
  if (column >= n) return;
  Wide<T> b[kWidth], value[kWidth];
  load<kWidth>(bias + column, b);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    load<kWidth>(y + row * ldy + column, value);
    for (int e = 0; e < kWidth; ++e) value[e] += b[e];
    store<kWidth>(y + row * ldy + column, value);
  }
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

template <class T>
void scale_by_ratio(Cuda, const Launch& launch, int64_t n, const Wide<T>* dividend, const Wide<T>* divisor, const T* x,
                    T* y, Mode mode) {
  if (n == 0) return;
  scale_by_ratio_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, dividend, divisor, x, y, mode);
  check_launch("scale_by_ratio");
}

template <class From, class To>
void cast(Cuda, const Launch& launch, int64_t n, const From* x, To* y, Mode mode) {
  if (n == 0) return;
  cast_kernel<From, To><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(n, x, y, mode);
  check_launch("cast");
}

template <class From, class To>
void copy_padded(Cuda, const Launch& launch, const PaddedCopy<From, To>& args) {
  const int64_t n = args.padded_rows * args.padded_width;
  if (n == 0) return;
  const bool fours =
      args.width % 4 == 0 && holds_vectors<4>(args.x, args.ldx) && holds_vectors<4>(args.y, args.padded_width);
  auto* kernel = fours ? copy_padded_kernel<4, From, To> : copy_padded_kernel<1, From, To>;
  kernel<<<grid_for(n / (fours ? 4 : 1), kThreads), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("copy_padded");
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
  constexpr int kWidest = 16 / sizeof(T);
  const bool vectors = n % kWidest == 0 && holds_vectors<kWidest>(bias, n) && holds_vectors<kWidest>(y, ldy);
  const auto across = static_cast<unsigned>(ceil_div(n, int64_t{kThreads} * (vectors ? kWidest : 1)));
  const dim3 grid(across, std::min<unsigned>(grid_for(rows, 1), 1 + grid_for(rows * n, kThreads) / across));
  auto* kernel = vectors ? add_bias_kernel<kWidest, T> : add_bias_kernel<1, T>;
  kernel<<<grid, kThreads, 0, stream_of(launch)>>>(rows, n, bias, y, ldy);
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
#define MOEUT_INSTANTIATE(T)                                                                                         \
  template void scale_copy<T>(Cuda, const Launch&, int64_t, Wide<T>, const T*, T*, Mode);                            \
  template void scale_by_ratio<T>(Cuda, const Launch&, int64_t, const Wide<T>*, const Wide<T>*, const T*, T*, Mode); \
  template void add<T>(Cuda, const Launch&, int64_t, const T*, const T*, T*);                                        \
  template void add_bias<T>(Cuda, const Launch&, int64_t, int64_t, const Wide<T>*, T*, int64_t);                     \
  template void dropout<T>(Cuda, const Launch&, const Dropout<T>&);                                                  \
  template void head_gate_forward<T>(Cuda, const Launch&, int64_t, int64_t, int64_t, const T*, const Wide<T>*, T*);  \
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
  template void copy_padded(Cuda, const Launch&, const PaddedCopy<float, T>&);        \
  template void copy_padded(Cuda, const Launch&, const PaddedCopy<T, T>&);
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE
template void copy_padded(Cuda, const Launch&, const PaddedCopy<float, float>&);

}  // namespace moeut::kernels
