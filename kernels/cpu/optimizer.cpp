// AdamW and the gradient norm on the CPU: one parallel loop over blocks of all tensors together.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kBlock = 16384;

int64_t blocks_of(int64_t size) {
  return (size + kBlock - 1) / kBlock;
}

template <class Tensor>
int64_t count_blocks(std::span<const Tensor> tensors) {
  int64_t blocks = 0;
  for (const Tensor& t : tensors) blocks += blocks_of(t.size);
  return blocks;
}

/// f(tensor, begin, end) for block `piece` of all tensors in their order; walking along them is nothing beside 16384
/// elements.
template <class Tensor, class F>
void on_block(std::span<const Tensor> tensors, int64_t piece, F&& f) {
  for (const Tensor& t : tensors) {
    if (piece < blocks_of(t.size)) return f(t, piece * kBlock, std::min((piece + 1) * kBlock, t.size));
    piece -= blocks_of(t.size);
  }
}

/// The scalar factors of one step, rounded once.
template <class T>
struct Factors {
  explicit Factors(const AdamWStep& s)
      : keep(static_cast<T>(1 - s.lr * s.weight_decay)),
        scale(static_cast<T>(s.gradient_scale)),
        beta1(static_cast<T>(s.beta1)),
        beta2(static_cast<T>(s.beta2)),
        rest1(static_cast<T>(1 - s.beta1)),
        rest2(static_cast<T>(1 - s.beta2)),
        step_size(static_cast<T>(s.lr / (1 - std::pow(s.beta1, static_cast<double>(s.step))))),
        root_correction(static_cast<T>(std::sqrt(1 - std::pow(s.beta2, static_cast<double>(s.step))))),
        eps(static_cast<T>(s.eps)) {}

  T keep, scale, beta1, beta2, rest1, rest2, step_size, root_correction, eps;
};

template <class T>
MOEUT_INLINE void update_body(const AdamWTensor<T>& t, const Factors<T>& f, int64_t begin, int64_t end) {
  const T keep = t.decay ? f.keep : T(1);
  const T* gradient = t.gradient;
  T *value = t.value, *exp_avg = t.exp_avg, *exp_avg_sq = t.exp_avg_sq;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const T g = f.scale * gradient[i];
    const T m = f.beta1 * exp_avg[i] + f.rest1 * g;
    const T v = f.beta2 * exp_avg_sq[i] + f.rest2 * (g * g);
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    value[i] = value[i] * keep - f.step_size * (m / (std::sqrt(v) / f.root_correction + f.eps));
  }
}
MOEUT_CLONES void update(const AdamWTensor<float>& t, const Factors<float>& f, int64_t begin, int64_t end) {
  update_body(t, f, begin, end);
}
MOEUT_CLONES void update(const AdamWTensor<double>& t, const Factors<double>& f, int64_t begin, int64_t end) {
  update_body(t, f, begin, end);
}

template <class T>
MOEUT_INLINE double squares_body(const T* x, int64_t n) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    const double value = static_cast<double>(x[i]);
    sum += value * value;
  }
  return sum;
}
MOEUT_CLONES double squares(const float* x, int64_t n) {
  return squares_body(x, n);
}
MOEUT_CLONES double squares(const double* x, int64_t n) {
  return squares_body(x, n);
}

}  // namespace

template <class T>
void adamw(Cpu, const Launch&, std::span<const AdamWTensor<T>> tensors, const AdamWStep* step) {
  const Factors<T> factors(*step);
  parallel_pieces(count_blocks(tensors), [&](int64_t piece, int) {
    on_block(tensors, piece,
             [&](const AdamWTensor<T>& t, int64_t begin, int64_t end) { update(t, factors, begin, end); });
  });
}

template <class T>
size_t squared_norm_workspace_bytes(Cpu, std::span<const NormTensor<T>> tensors) {
  return static_cast<size_t>(count_blocks(tensors)) * sizeof(double);
}

template <class T>
void squared_norm(Cpu, const Launch& launch, std::span<const NormTensor<T>> tensors, double* result) {
  auto* partial = static_cast<double*>(launch.workspace);
  const int64_t blocks = count_blocks(tensors);
  parallel_pieces(blocks, [&](int64_t piece, int) {
    on_block(tensors, piece, [&](const NormTensor<T>& t, int64_t begin, int64_t end) {
      partial[piece] = squares(t.data + begin, end - begin);
    });
  });
  *result = 0;
  for (int64_t b = 0; b < blocks; ++b) *result += partial[b];
}

template void adamw<float>(Cpu, const Launch&, std::span<const AdamWTensor<float>>, const AdamWStep*);
template void adamw<double>(Cpu, const Launch&, std::span<const AdamWTensor<double>>, const AdamWStep*);
template size_t squared_norm_workspace_bytes<float>(Cpu, std::span<const NormTensor<float>>);
template size_t squared_norm_workspace_bytes<double>(Cpu, std::span<const NormTensor<double>>);
template void squared_norm<float>(Cpu, const Launch&, std::span<const NormTensor<float>>, double*);
template void squared_norm<double>(Cpu, const Launch&, std::span<const NormTensor<double>>, double*);

}  // namespace moeut::kernels
