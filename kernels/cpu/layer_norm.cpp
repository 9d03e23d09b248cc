#include "kernels/layer_norm.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

namespace {
constexpr int64_t kRows = 32;  ///< a block of rows whose parameter gradients are summed together
}

template <class T>
void layer_norm_forward(Cpu, const Launch&, const LayerNormForward<T>& a) {
  parallel_blocks(a.rows, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* x = a.x + i * a.ldx;
      T* y = a.y + i * a.ldy;
      double sum = 0, squares = 0;
      for (int64_t j = 0; j < a.n; ++j) sum += static_cast<double>(x[j]);
      const double mean = sum / static_cast<double>(a.n);
      for (int64_t j = 0; j < a.n; ++j) squares += (static_cast<double>(x[j]) - mean) * (static_cast<double>(x[j]) - mean);
      a.mean[i] = static_cast<T>(mean);
      a.rstd[i] = static_cast<T>(1 / std::sqrt(squares / static_cast<double>(a.n) + a.eps));
      for (int64_t j = 0; j < a.n; ++j) y[j] = (x[j] - a.mean[i]) * a.rstd[i] * a.weight[j] + a.bias[j];
    }
  });
}

namespace {

/// dx of one row: rstd · (g - mean(g) - x̂ · mean(g ∘ x̂)), g = dy ∘ weight.
template <class T>
void input_gradient(const LayerNormBackward<T>& a, int64_t i) {
  const T *x = a.x + i * a.ldx, *dy = a.dy + i * a.lddy;
  T* dx = a.dx + i * a.lddx;
  double sum_g = 0, sum_gx = 0;
  for (int64_t j = 0; j < a.n; ++j) {
    const T g = dy[j] * a.weight[j], normal = (x[j] - a.mean[i]) * a.rstd[i];
    sum_g += static_cast<double>(g);
    sum_gx += static_cast<double>(g * normal);
  }
  const T mean_g = static_cast<T>(sum_g / static_cast<double>(a.n)), mean_gx = static_cast<T>(sum_gx / static_cast<double>(a.n));
  for (int64_t j = 0; j < a.n; ++j) {
    const T normal = (x[j] - a.mean[i]) * a.rstd[i];
    const T value = a.rstd[i] * (dy[j] * a.weight[j] - mean_g - normal * mean_gx);
    dx[j] = a.dx_mode == Mode::accumulate ? dx[j] + value : value;
  }
}

/// Partial sums of dweight and dbias over the rows of a block.
template <class T>
void parameter_partial(const LayerNormBackward<T>& a, int64_t begin, int64_t end, T* dweight, T* dbias) {
  std::fill_n(dweight, a.n, T(0));
  std::fill_n(dbias, a.n, T(0));
  for (int64_t i = begin; i < end; ++i) {
    const T *x = a.x + i * a.ldx, *dy = a.dy + i * a.lddy;
    for (int64_t j = 0; j < a.n; ++j) {
      dweight[j] += dy[j] * (x[j] - a.mean[i]) * a.rstd[i];
      dbias[j] += dy[j];
    }
  }
}

template <class T>
void sum_partials(const T* partials, int64_t blocks, int64_t n, int64_t stride, T* out, Mode mode) {
  if (out == nullptr) return;
  for (int64_t j = 0; j < n; ++j) {
    T sum = 0;
    for (int64_t b = 0; b < blocks; ++b) sum += partials[b * stride + j];
    out[j] = mode == Mode::accumulate ? out[j] + sum : sum;
  }
}

}  // namespace

template <class T>
size_t layer_norm_backward_workspace_bytes(Cpu, int64_t rows, int64_t n) {
  return static_cast<size_t>((rows + kRows - 1) / kRows * 2 * n) * sizeof(T);
}

template <class T>
void layer_norm_backward(Cpu, const Launch& launch, const LayerNormBackward<T>& a) {
  T* partials = static_cast<T*>(launch.workspace);
  const bool parameters = a.dweight != nullptr || a.dbias != nullptr;
  parallel_blocks(a.rows, kRows, [&](int64_t begin, int64_t end) {
    if (parameters) {
      T* mine = partials + begin / kRows * 2 * a.n;
      parameter_partial(a, begin, end, mine, mine + a.n);
    }
    if (a.dx == nullptr) return;
    for (int64_t i = begin; i < end; ++i) input_gradient(a, i);
  });
  const int64_t blocks = (a.rows + kRows - 1) / kRows;
  sum_partials(partials, blocks, a.n, 2 * a.n, a.dweight, a.dweight_mode);
  sum_partials(partials + a.n, blocks, a.n, 2 * a.n, a.dbias, a.dbias_mode);
}

#define MOEUT_INSTANTIATE(T)                                                          \
  template void layer_norm_forward(Cpu, const Launch&, const LayerNormForward<T>&);   \
  template size_t layer_norm_backward_workspace_bytes<T>(Cpu, int64_t, int64_t);      \
  template void layer_norm_backward(Cpu, const Launch&, const LayerNormBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
