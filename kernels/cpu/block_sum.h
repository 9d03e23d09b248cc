// Column sums in two stages, the same bits for any number of threads: each block of rows leaves a partial sum, the
// partial sums are added in order, in float64.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dtype.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/put.h"

namespace moeut::kernels {

/// Rows that share one partial sum: few enough that summing them in T costs no accuracy, enough that the partial sums
/// are cheap.
inline constexpr int64_t kSumRows = 64;

inline int64_t sum_blocks(int64_t rows) {
  return (rows + kSumRows - 1) / kSumRows;
}

/// partial[j] = Σ_{i < rows} x[i · ld + j] for j < n, four rows at a time.
template <class T>
MOEUT_INLINE void sum_rows(int64_t rows, int64_t n, const T* x, int64_t ld, T* partial) {
  std::fill_n(partial, n, T(0));
  int64_t i = 0;
  for (; i + 4 <= rows; i += 4) {
    const T* x0 = x + i * ld;
    const T *x1 = x0 + ld, *x2 = x1 + ld, *x3 = x2 + ld;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) partial[j] += (x0[j] + x1[j]) + (x2[j] + x3[j]);
  }
  for (; i < rows; ++i) {
    const T* row = x + i * ld;
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) partial[j] += row[j];
  }
}

/// out[j] = Σ_b partial[b · ld + j], blocks in order, by mode.
template <class T>
void combine_partials(int64_t blocks, int64_t n, const T* partial, int64_t ld, T* out, Mode mode) {
  constexpr int64_t kColumns = 128;
  parallel_blocks(n, kColumns, [=](int64_t begin, int64_t end) {
    double sum[kColumns] = {};
    const int64_t width = end - begin;
    for (int64_t b = 0; b < blocks; ++b) {
      const T* row = partial + b * ld + begin;
      for (int64_t j = 0; j < width; ++j) sum[j] += static_cast<double>(row[j]);
    }
    for (int64_t j = 0; j < width; ++j) {
      const T before = mode == Mode::accumulate ? out[begin + j] : T(0);
      out[begin + j] = before + static_cast<T>(sum[j]);
    }
  });
}

}  // namespace moeut::kernels
