#include "kernels/cpu/row_ops.h"

#include <algorithm>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/softmax_row.h"

namespace moeut::kernels {

namespace {

template <class T>
MOEUT_INLINE void scale_body(const T* x, T* y, int64_t n, T a) {
  for (int64_t i = 0; i < n; ++i) y[i] = a * x[i];
}

template <class T>
MOEUT_INLINE void add_scaled_body(const T* __restrict x, T* __restrict y, int64_t n, T a) {
  for (int64_t i = 0; i < n; ++i) y[i] += a * x[i];
}

template <class T>
MOEUT_INLINE void relu_body(T* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = y[i] < T(0) ? T(0) : y[i];
}

template <class T>
MOEUT_INLINE void relu_backward_body(const T* __restrict h, T* __restrict y, int64_t n, T a) {
  for (int64_t i = 0; i < n; ++i) {
    const T kept = h[i] > T(0) ? y[i] : T(0);  // chosen before the product: a product in one arm is control flow to gcc
    y[i] = a * kept;
  }
}

/// Lanes of 128 bytes: enough independent sums to hide the latency of an addition, on any instruction set.
template <class T>
constexpr int64_t kLanes = 128 / static_cast<int64_t>(sizeof(T));

/// The lanes added pairwise, halves first.
template <class T>
MOEUT_INLINE T fold(T* lanes) {
  for (int64_t half = kLanes<T> / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

template <class T>
MOEUT_INLINE T dot_body(const T* x, const T* y, int64_t n) {
  T lanes[kLanes<T>] = {};
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    for (int64_t l = 0; l < kLanes<T>; ++l) lanes[l] += x[i + l] * y[i + l];
  }
  for (int64_t l = 0; i + l < n; ++l) lanes[l] += x[i + l] * y[i + l];
  return fold(lanes);
}

/// Σ x of a short stretch: a lane adds few terms, so that the rounding stays near that of one addition.
template <class T>
MOEUT_INLINE T sum_body(const T* x, int64_t n) {
  T lanes[kLanes<T>] = {};
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) {
    for (int64_t l = 0; l < kLanes<T>; ++l) lanes[l] += x[i + l];
  }
  for (int64_t l = 0; i + l < n; ++l) lanes[l] += x[i + l];
  return fold(lanes);
}

template <class T>
MOEUT_INLINE double exp_sum_body(T* x, int64_t n, T shift) {
  constexpr int64_t kStretch = 256;
  double sum = 0;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t length = std::min(kStretch, n - begin);
    for (int64_t i = begin; i < begin + length; ++i) x[i] = fast_exp(x[i] - shift);
    sum += static_cast<double>(sum_body(x + begin, length));
  }
  return sum;
}

template <class T>
MOEUT_INLINE void softmax_backward_body(T* __restrict p, T* __restrict dp, int64_t n, T lse, T delta) {
  for (int64_t i = 0; i < n; ++i) {
    p[i] = fast_exp(p[i] - lse);
    dp[i] = p[i] * (dp[i] - delta);
  }
}

}  // namespace

#define MOEUT_ROW_OPS(T)                                                           \
  MOEUT_CLONES void scale_row(const T* x, T* y, int64_t n, T a) {                  \
    scale_body(x, y, n, a);                                                        \
  }                                                                                \
  MOEUT_CLONES void add_scaled_row(const T* x, T* y, int64_t n, T a) {             \
    add_scaled_body(x, y, n, a);                                                   \
  }                                                                                \
  MOEUT_CLONES void relu_row(T* y, int64_t n) {                                    \
    relu_body(y, n);                                                               \
  }                                                                                \
  MOEUT_CLONES void relu_backward_row(const T* h, T* y, int64_t n, T a) {          \
    relu_backward_body(h, y, n, a);                                                \
  }                                                                                \
  MOEUT_CLONES T dot_row(const T* x, const T* y, int64_t n) {                      \
    return dot_body(x, y, n);                                                      \
  }                                                                                \
  MOEUT_CLONES T max_row(const T* x, int64_t n) {                                  \
    return row_max(x, n);                                                          \
  }                                                                                \
  MOEUT_CLONES double exp_sum_row(T* x, int64_t n, T shift) {                      \
    return exp_sum_body(x, n, shift);                                              \
  }                                                                                \
  MOEUT_CLONES void softmax_backward_row(T* p, T* dp, int64_t n, T lse, T delta) { \
    softmax_backward_body(p, dp, n, lse, delta);                                   \
  }
MOEUT_ROW_OPS(float)
MOEUT_ROW_OPS(double)
#undef MOEUT_ROW_OPS

}  // namespace moeut::kernels
