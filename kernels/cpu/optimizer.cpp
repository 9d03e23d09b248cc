#include "kernels/optimizer.h"

#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kBlock = 16384;

/// A step's scalars in the element type.
template <class T>
struct Factors {
  T decay, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, bias2_sqrt, eps, gradient_scale;
};

template <class T>
Factors<T> factors_of(const AdamWStep& s, bool decay) {
  const auto t = static_cast<double>(s.step);
  return {static_cast<T>(decay ? 1 - s.lr * s.weight_decay : 1), static_cast<T>(s.beta1), static_cast<T>(1 - s.beta1), static_cast<T>(s.beta2),
          static_cast<T>(1 - s.beta2), static_cast<T>(s.lr / (1 - std::pow(s.beta1, t))), static_cast<T>(std::sqrt(1 - std::pow(s.beta2, t))),
          static_cast<T>(s.eps), static_cast<T>(s.gradient_scale)};
}

template <class T>
MOEUT_INLINE void update_body(const AdamWTensor<T>& p, const Factors<T>& f, int64_t begin, int64_t end) {
  T* __restrict value = p.value;
  const T* __restrict gradient = p.gradient;
  T* __restrict m = p.exp_avg;
  T* __restrict v = p.exp_avg_sq;
  for (int64_t i = begin; i < end; ++i) {
    const T g = f.gradient_scale * gradient[i];
    m[i] = f.beta1 * m[i] + f.one_minus_beta1 * g;
    v[i] = f.beta2 * v[i] + f.one_minus_beta2 * g * g;
    value[i] = f.decay * value[i] - f.step_size * m[i] / (std::sqrt(v[i]) / f.bias2_sqrt + f.eps);
  }
}
MOEUT_CLONES void update(const AdamWTensor<float>& p, const Factors<float>& f, int64_t begin, int64_t end) { update_body(p, f, begin, end); }
MOEUT_CLONES void update(const AdamWTensor<double>& p, const Factors<double>& f, int64_t begin, int64_t end) { update_body(p, f, begin, end); }

template <class T>
int64_t block_count(std::span<const NormTensor<T>> tensors) {
  int64_t blocks = 0;
  for (const auto& t : tensors) blocks += (t.size + kBlock - 1) / kBlock;
  return blocks;
}

}  // namespace

template <class T>
void adamw(Cpu, const Launch&, std::span<const AdamWTensor<T>> tensors, const AdamWStep* step) {
  for (const AdamWTensor<T>& p : tensors) {
    const Factors<T> f = factors_of<T>(*step, p.decay);
    parallel_blocks(p.size, kBlock, [&](int64_t begin, int64_t end) { update(p, f, begin, end); });
  }
}

template <class T>
size_t squared_norm_workspace_bytes(Cpu, std::span<const NormTensor<T>> tensors) {
  return static_cast<size_t>(block_count(tensors)) * sizeof(double);
}

template <class T>
void squared_norm(Cpu, const Launch& launch, std::span<const NormTensor<T>> tensors, double* result) {
  auto* partials = static_cast<double*>(launch.workspace);
  double* next = partials;
  for (const NormTensor<T>& t : tensors) {
    parallel_blocks(t.size, kBlock, [&](int64_t begin, int64_t end) {
      double sum = 0;
      for (int64_t i = begin; i < end; ++i) sum += static_cast<double>(t.data[i]) * static_cast<double>(t.data[i]);
      next[begin / kBlock] = sum;
    });
    next += (t.size + kBlock - 1) / kBlock;
  }
  *result = 0;
  for (const double* p = partials; p != next; ++p) *result += *p;
}

#define MOEUT_INSTANTIATE(T)                                                               \
  template void adamw(Cpu, const Launch&, std::span<const AdamWTensor<T>>, const AdamWStep*); \
  template size_t squared_norm_workspace_bytes(Cpu, std::span<const NormTensor<T>>);       \
  template void squared_norm(Cpu, const Launch&, std::span<const NormTensor<T>>, double*);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
