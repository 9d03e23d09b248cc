// The numbers that a softmax over one row needs.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "kernels/cpu/exp.h"

namespace moeut::kernels {

/// The largest element that is not NaN, -inf if there is none. In lanes of 128 bytes: without relaxed floating point
/// the compiler turns one running maximum into scalar code, but these into SIMD registers.
template <class T>
MOEUT_INLINE T row_max(const T* x, int64_t n) {
  constexpr int64_t kLanes = 128 / static_cast<int64_t>(sizeof(T));
  T largest = -std::numeric_limits<T>::infinity();
  int64_t j = 0;
  if (n >= kLanes) {
    T lanes[kLanes];
    for (T& lane : lanes) lane = largest;
    for (; j + kLanes <= n; j += kLanes) {
      for (int64_t l = 0; l < kLanes; ++l) lanes[l] = x[j + l] > lanes[l] ? x[j + l] : lanes[l];
    }
    for (int64_t half = kLanes / 2; half > 0; half /= 2) {
      for (int64_t l = 0; l < half; ++l) lanes[l] = lanes[l + half] > lanes[l] ? lanes[l + half] : lanes[l];
    }
    largest = lanes[0];
  }
  for (; j < n; ++j) largest = x[j] > largest ? x[j] : largest;
  return largest;
}

/// A softmax's two numbers: p[e] = exp(x[e] - largest) / sum, log Σ exp(x) = largest + log(sum).
template <class T>
struct SoftmaxRow {
  T largest;
  double sum;
};

/// Terms in T, added in float64 every 512 of them.
template <class T>
MOEUT_INLINE SoftmaxRow<T> softmax_row_of(const T* x, int64_t n) {
  constexpr int64_t kStretch = 512;
  const T largest = row_max(x, n);
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t end = std::min(begin + kStretch, n);
    T sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = begin; j < end; ++j) sum += fast_exp(x[j] - largest);
    total += static_cast<double>(sum);
  }
  return {largest, total};
}

}  // namespace moeut::kernels
