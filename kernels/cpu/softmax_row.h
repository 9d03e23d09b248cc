// The numbers that a softmax over one row needs.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kernels/cpu/exp.h"

namespace moeut::kernels {

/// The largest element that is not NaN, -inf if there is none. In explicit lanes: without relaxed floating point
/// compilers do not turn a running maximum into SIMD.
template <class T>
MOEUT_INLINE T row_max(const T* x, int64_t n) {
  constexpr int64_t kLanes = 64 / sizeof(T);
  typedef T Lanes __attribute__((vector_size(64)));
  T largest = -std::numeric_limits<T>::infinity();
  int64_t j = 0;
  if (n >= kLanes) {
    Lanes top = Lanes{} + largest;
    for (; j + kLanes <= n; j += kLanes) {
      Lanes next;
      std::memcpy(&next, x + j, sizeof(Lanes));
      top = next > top ? next : top;
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) largest = top[lane] > largest ? top[lane] : largest;
  }
  for (; j < n; ++j) largest = x[j] > largest ? x[j] : largest;
  return largest;
}

/// log Σ exp(x), shifted by the row's maximum; terms in T, summed in float64 every 512 of them.
template <class T>
MOEUT_INLINE double row_log_sum_exp(const T* x, int64_t n) {
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
  return static_cast<double>(largest) + std::log(total);
}

}  // namespace moeut::kernels
