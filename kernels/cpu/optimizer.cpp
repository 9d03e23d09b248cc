// AdamW and the gradient norm on the CPU: one parallel loop over blocks of all tensors together.
#include "kernels/optimizer.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kBlock = kOptimizerBlock;

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

template <class T>
MOEUT_INLINE void update_body(const AdamWTensor<T>& t, const AdamWFactors<T>& f, int64_t begin, int64_t end) {
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
MOEUT_CLONES void update(const AdamWTensor<float>& t, const AdamWFactors<float>& f, int64_t begin, int64_t end) {
  update_body(t, f, begin, end);
}
MOEUT_CLONES void update(const AdamWTensor<double>& t, const AdamWFactors<double>& f, int64_t begin, int64_t end) {
  update_body(t, f, begin, end);
}

template <class T>
MOEUT_INLINE void ema_body(const AdamWTensor<T>& t, const AdamWFactors<T>& f, int64_t begin, int64_t end) {
  T* ema = t.ema;
  const T* value = t.value;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) ema[i] = f.ema_decay * ema[i] + f.ema_rest * value[i];
}
MOEUT_CLONES void update_ema(const AdamWTensor<float>& t, const AdamWFactors<float>& f, int64_t begin, int64_t end) {
  ema_body(t, f, begin, end);
}
MOEUT_CLONES void update_ema(const AdamWTensor<double>& t, const AdamWFactors<double>& f, int64_t begin, int64_t end) {
  ema_body(t, f, begin, end);
}

template <class T, class Narrow>
void round_to(const T* value, void* narrow, int64_t begin, int64_t end) {
  auto* to = static_cast<Narrow*>(narrow);
  for (int64_t i = begin; i < end; ++i) to[i] = Narrow(static_cast<float>(value[i]));
}
template <class T>
void round_values(const AdamWTensor<T>& t, int64_t begin, int64_t end) {
  if (t.narrow_type == DType::bf16) return round_to<T, BFloat16>(t.value, t.narrow, begin, end);
  if (t.narrow_type == DType::f16) return round_to<T, Float16>(t.value, t.narrow, begin, end);
  round_to<T, TFloat32>(t.value, t.narrow, begin, end);
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
void add_losses(Cpu, const Launch&, const T* loss, const T* reg_loss, StepScalars* scalars) {
  scalars->running_loss += static_cast<double>(*loss);
  scalars->running_reg_loss += static_cast<double>(*reg_loss);
}

void decide_update(Cpu, const Launch&, const AdamWRule& rule, StepScalars* scalars, float* loss_scale) {
  decide(*scalars, rule);
  *loss_scale = static_cast<float>(scalars->scaler.scale);
}

template <class T>
void adamw(Cpu, const Launch&, std::span<const AdamWTensor<T>> tensors, const AdamWRule& rule,
           const StepScalars* scalars) {
  if (scalars->updated == 0) return;
  const AdamWFactors<T> factors(rule, *scalars);
  parallel_pieces(count_blocks(tensors), [&](int64_t piece, int) {
    on_block(tensors, piece, [&](const AdamWTensor<T>& t, int64_t begin, int64_t end) {
      update(t, factors, begin, end);
      if (t.narrow != nullptr) round_values(t, begin, end);
      if (t.ema != nullptr) update_ema(t, factors, begin, end);
    });
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

#define MOEUT_INSTANTIATE(T)                                                                                         \
  template void add_losses<T>(Cpu, const Launch&, const T*, const T*, StepScalars*);                                 \
  template void adamw<T>(Cpu, const Launch&, std::span<const AdamWTensor<T>>, const AdamWRule&, const StepScalars*); \
  template size_t squared_norm_workspace_bytes<T>(Cpu, std::span<const NormTensor<T>>);                              \
  template void squared_norm<T>(Cpu, const Launch&, std::span<const NormTensor<T>>, double*);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
