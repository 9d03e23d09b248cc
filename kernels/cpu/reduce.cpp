#include "kernels/reduce.h"

#include "kernels/cpu/block_sum.h"
#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kColumns = 1024;  // a partial sum of so many stays in the first-level cache while the rows go by

/// partial (n) = the sum of the rows, one stretch of columns after the other.
template <class T>
MOEUT_INLINE void sum_block_body(int64_t rows, int64_t n, const T* x, int64_t ldx, T* partial) {
  for (int64_t j = 0; j < n; j += kColumns) sum_rows(rows, std::min(kColumns, n - j), x + j, ldx, partial + j);
}
MOEUT_CLONES void sum_block(int64_t rows, int64_t n, const float* x, int64_t ldx, float* partial) {
  sum_block_body(rows, n, x, ldx, partial);
}
MOEUT_CLONES void sum_block(int64_t rows, int64_t n, const double* x, int64_t ldx, double* partial) {
  sum_block_body(rows, n, x, ldx, partial);
}

}  // namespace

template <class T>
size_t column_sum_workspace_bytes(Cpu, int64_t rows, int64_t n) {
  return static_cast<size_t>(sum_blocks(rows) * n) * sizeof(Wide<T>);
}

template <class T>
void column_sum(Cpu tag, const Launch& launch, int64_t rows, int64_t n, const T* x, int64_t ldx, Wide<T>* out,
                Mode mode) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    column_sum<float>(tag, launch, rows, n, f.in(x, extent(rows, n, ldx)), ldx, out, mode);
  } else {
    T* partial = static_cast<T*>(launch.workspace);
    parallel_blocks(rows, kSumRows, [=](int64_t begin, int64_t end) {
      sum_block(end - begin, n, x + begin * ldx, ldx, partial + begin / kSumRows * n);
    });
    combine_partials(sum_blocks(rows), n, partial, n, out, mode);
  }
}

#define MOEUT_INSTANTIATE(T)                                            \
  template size_t column_sum_workspace_bytes<T>(Cpu, int64_t, int64_t); \
  template void column_sum<T>(Cpu, const Launch&, int64_t, int64_t, const T*, int64_t, Wide<T>*, Mode);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
