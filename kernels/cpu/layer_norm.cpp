// Layer normalisation on the CPU: one row at a time while it lies in the first-level cache; statistics in float64.
#include "kernels/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/block_sum.h"
#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kForwardRows = 16;

struct Moments {
  double mean, rstd;
};

template <class T>
MOEUT_INLINE Moments moments_of(const T* x, int64_t n, double eps) {
  double sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; ++j) sum += static_cast<double>(x[j]);
  const double mean = sum / static_cast<double>(n);
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < n; ++j) {
    const double d = static_cast<double>(x[j]) - mean;
    squares += d * d;
  }
  return {mean, 1 / std::sqrt(squares / static_cast<double>(n) + eps)};
}

/// The row that is normalised, h: the sum, or x itself where there is no branch.
template <class T>
MOEUT_INLINE const T* summed_row(const LayerNormForward<T>& a, int64_t i) {
  const T* x = a.x + i * a.ldx;
  if (a.branch == nullptr) return x;
  const T* branch = a.branch + i * a.ldx;
  T* h = a.h + i * a.ldx;
#pragma omp simd
  for (int64_t j = 0; j < a.n; ++j) h[j] = x[j] + branch[j];
  return h;
}

template <class T>
MOEUT_INLINE void forward_rows_body(const LayerNormForward<T>& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const T* x = summed_row(a, i);
    T* y = a.y + i * a.ldy;
    if (a.narrow != nullptr) std::copy_n(x, a.n, a.narrow + i * a.ldy);
    const Moments moments = moments_of(x, a.n, a.eps);
    const T mean = static_cast<T>(moments.mean), rstd = static_cast<T>(moments.rstd);
    const T *weight = a.weight, *bias = a.bias;
#pragma omp simd
    for (int64_t j = 0; j < a.n; ++j) y[j] = (x[j] - mean) * rstd * weight[j] + bias[j];
    a.mean[i] = mean;
    a.rstd[i] = rstd;
  }
}
MOEUT_CLONES void forward_rows(const LayerNormForward<float>& a, int64_t begin, int64_t end) {
  forward_rows_body(a, begin, end);
}
MOEUT_CLONES void forward_rows(const LayerNormForward<double>& a, int64_t begin, int64_t end) {
  forward_rows_body(a, begin, end);
}

/// With g = dy · weight and x̂ = (x - mean) · rstd:  dx = dh + (dnarrow + rstd · (g - mean(g) - x̂ · mean(g · x̂))).
template <bool kSum, bool kNarrow, class T>
MOEUT_INLINE void input_gradient(const LayerNormBackward<T>& a, int64_t i) {
  const T *dy = a.dy + i * a.lddy, *x = a.x + i * a.ldx, *weight = a.weight;
  const T* dh = kSum ? a.dh + i * a.lddx : nullptr;
  const T* dnarrow = kNarrow ? a.dnarrow + i * a.lddy : nullptr;
  T* dx = a.dx + i * a.lddx;
  const T mean = a.mean[i], rstd = a.rstd[i];
  double sum_g = 0, sum_gx = 0;
#pragma omp simd reduction(+ : sum_g, sum_gx)
  for (int64_t j = 0; j < a.n; ++j) {
    const T g = dy[j] * weight[j];
    sum_g += static_cast<double>(g);
    sum_gx += static_cast<double>(g * ((x[j] - mean) * rstd));
  }
  const T mean_g = static_cast<T>(sum_g / static_cast<double>(a.n)),
          mean_gx = static_cast<T>(sum_gx / static_cast<double>(a.n));
#pragma omp simd
  for (int64_t j = 0; j < a.n; ++j) {
    const T normal = (x[j] - mean) * rstd;
    T d = rstd * (dy[j] * weight[j] - mean_g - normal * mean_gx);
    if constexpr (kNarrow) d += dnarrow[j];
    if constexpr (kSum) d += dh[j];
    dx[j] = d;
  }
}
template <bool kSum, class T>
MOEUT_INLINE void input_gradient(const LayerNormBackward<T>& a, int64_t i) {
  a.dnarrow == nullptr ? input_gradient<kSum, false>(a, i) : input_gradient<kSum, true>(a, i);
}

/// dweight[j] += dy · x̂, dbias[j] += dy, for one row.
template <class T>
MOEUT_INLINE void add_parameter_gradients(const LayerNormBackward<T>& a, int64_t i, T* dweight, T* dbias) {
  const T *dy = a.dy + i * a.lddy, *x = a.x + i * a.ldx;
  const T mean = a.mean[i], rstd = a.rstd[i];
#pragma omp simd
  for (int64_t j = 0; j < a.n; ++j) {
    dweight[j] += dy[j] * ((x[j] - mean) * rstd);
    dbias[j] += dy[j];
  }
}

/// Rows [begin, end); `partial` (2, n), or null: no parameter gradients.
template <class T>
MOEUT_INLINE void backward_rows_body(const LayerNormBackward<T>& a, int64_t begin, int64_t end, T* partial) {
  if (partial != nullptr) std::fill_n(partial, 2 * a.n, T(0));
  for (int64_t i = begin; i < end; ++i) {
    if (partial != nullptr) add_parameter_gradients(a, i, partial, partial + a.n);  // before dx, which may overwrite dy
    if (a.dx == nullptr) continue;
    a.dh == nullptr ? input_gradient<false>(a, i) : input_gradient<true>(a, i);
  }
}
MOEUT_CLONES void backward_rows(const LayerNormBackward<float>& a, int64_t begin, int64_t end, float* partial) {
  backward_rows_body(a, begin, end, partial);
}
MOEUT_CLONES void backward_rows(const LayerNormBackward<double>& a, int64_t begin, int64_t end, double* partial) {
  backward_rows_body(a, begin, end, partial);
}

}  // namespace

template <class T>
void layer_norm_forward(Cpu tag, const Launch& launch, const LayerNormForward<T>& args) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t elements = extent(args.rows, args.n, args.ldy);
    layer_norm_forward<float>(tag, launch,
                              {.rows = args.rows,
                               .n = args.n,
                               .x = args.x,
                               .ldx = args.ldx,
                               .weight = args.weight,
                               .bias = args.bias,
                               .y = f.out(args.y, elements, args.ldy != args.n),
                               .ldy = args.ldy,
                               .mean = args.mean,
                               .rstd = args.rstd,
                               .eps = args.eps,
                               .branch = args.branch,
                               .h = args.h,
                               .narrow = f.out(args.narrow, elements, args.ldy != args.n)});
  } else {
    parallel_blocks(args.rows, kForwardRows, [&](int64_t begin, int64_t end) { forward_rows(args, begin, end); });
  }
}

template <class T>
size_t layer_norm_backward_workspace_bytes(Cpu, int64_t rows, int64_t n) {
  return static_cast<size_t>(sum_blocks(rows) * 2 * n) * sizeof(Wide<T>);
}

template <class T>
void layer_norm_backward(Cpu tag, const Launch& launch, const LayerNormBackward<T>& args) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    layer_norm_backward<float>(tag, launch,
                               {.rows = args.rows,
                                .n = args.n,
                                .dy = f.in(args.dy, extent(args.rows, args.n, args.lddy)),
                                .lddy = args.lddy,
                                .x = args.x,
                                .ldx = args.ldx,
                                .weight = args.weight,
                                .mean = args.mean,
                                .rstd = args.rstd,
                                .dx = args.dx,
                                .lddx = args.lddx,
                                .dweight = args.dweight,
                                .dweight_mode = args.dweight_mode,
                                .dbias = args.dbias,
                                .dbias_mode = args.dbias_mode,
                                .dh = args.dh,
                                .dnarrow = f.in(args.dnarrow, extent(args.rows, args.n, args.lddy))});
  } else {
    const bool parameters = args.dweight != nullptr || args.dbias != nullptr;
    T* partial = parameters ? static_cast<T*>(launch.workspace) : nullptr;
    parallel_blocks(args.rows, kSumRows, [&](int64_t begin, int64_t end) {
      backward_rows(args, begin, end, partial == nullptr ? nullptr : partial + begin / kSumRows * 2 * args.n);
    });
    const int64_t blocks = sum_blocks(args.rows);
    if (args.dweight != nullptr) combine_partials(blocks, args.n, partial, 2 * args.n, args.dweight, args.dweight_mode);
    if (args.dbias != nullptr)
      combine_partials(blocks, args.n, partial + args.n, 2 * args.n, args.dbias, args.dbias_mode);
  }
}

#define MOEUT_INSTANTIATE(T)                                                           \
  template void layer_norm_forward<T>(Cpu, const Launch&, const LayerNormForward<T>&); \
  template size_t layer_norm_backward_workspace_bytes<T>(Cpu, int64_t, int64_t);       \
  template void layer_norm_backward<T>(Cpu, const Launch&, const LayerNormBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
