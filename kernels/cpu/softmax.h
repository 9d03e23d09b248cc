// Softmax of one row, shared by the entropy and cross-entropy kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/cpu/exp.h"

namespace moeut::kernels {

template <class T>
MOEUT_INLINE void exp_shifted_body(const T* x, T* y, int64_t n, T shift) {
  for (int64_t i = 0; i < n; ++i) y[i] = fast_exp(x[i] - shift);
}
/// y = exp(x - shift); y may be x.
void exp_shifted(const float* x, float* y, int64_t n, float shift);
void exp_shifted(const double* x, double* y, int64_t n, double shift);

/// log Σ exp(x), stable; `scratch` holds n elements.
template <class T>
T log_sum_exp(const T* x, int64_t n, T* scratch) {
  const T largest = *std::max_element(x, x + n);
  exp_shifted(x, scratch, n, largest);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(scratch[i]);
  return largest + static_cast<T>(std::log(sum));
}

}  // namespace moeut::kernels
