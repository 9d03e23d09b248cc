#include "kernels/exact_sum.h"

#include <bit>
#include <cmath>

#include "kernels/cpu/simd.h"

namespace moeut::kernels {
namespace {

/// What a + b = sum has lost.
MOEUT_INLINE double lost(double a, double b, double sum) {
  const double b_part = sum - a, a_part = sum - b_part;
  return (a - a_part) + (b - b_part);
}

template <class T>
MOEUT_INLINE bool add_body(int64_t n, const T* x, double* high, double* error) {
  int64_t inexact = 0;
#pragma omp simd reduction(| : inexact)
  for (int64_t i = 0; i < n; ++i) {
    const double a = high[i], b = static_cast<double>(x[i]), sum = a + b;
    high[i] = sum;
    error[i] = lost(a, b, sum);
    inexact |= static_cast<int64_t>(error[i] != 0);
  }
  return inexact != 0;
}
MOEUT_CLONES bool add(int64_t n, const float* x, double* high, double* error) {
  return add_body(n, x, high, error);
}
MOEUT_CLONES bool add(int64_t n, const double* x, double* high, double* error) {
  return add_body(n, x, high, error);
}

/// high + rest of one element, rounded once.
double rounded(double high, double rest, double*) {
  return high + rest;
}
float rounded(double high, double rest, float*) {
  const double sum = high + rest, error = lost(high, rest, sum);
  // Where the double is not the whole sum, its last bit says so: then rounding it is rounding the sum.
  const auto bits = std::bit_cast<uint64_t>(sum);
  if (error == 0 || std::isnan(error) || (bits & 1) != 0) return static_cast<float>(sum);
  return static_cast<float>(std::bit_cast<double>((error > 0) == (sum > 0) ? bits + 1 : bits - 1));
}

}  // namespace

template <class T>
bool add_exactly(Cpu, int64_t n, const T* x, double* high, double* error) {
  return add(n, x, high, error);
}

template <class T>
void round_sums(Cpu, int64_t n, const double* high, const double* rest, T* y) {
  for (int64_t i = 0; i < n; ++i)
    y[i] = rest == nullptr ? static_cast<T>(high[i]) : rounded(high[i], rest[i], static_cast<T*>(nullptr));
}

#define MOEUT_INSTANTIATE(T)                                              \
  template bool add_exactly<T>(Cpu, int64_t, const T*, double*, double*); \
  template void round_sums<T>(Cpu, int64_t, const double*, const double*, T*);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
