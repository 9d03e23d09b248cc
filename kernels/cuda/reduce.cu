#include "kernels/reduce.h"

#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;

template <class T>
struct Value {
  const T* x;
  int64_t ldx;
  __device__ T operator()(int64_t row, int64_t column) const { return x[row * ldx + column]; }
};

}  // namespace

template <class T>
size_t column_sum_workspace_bytes(Cuda, int64_t rows, int64_t n) {
  return column_sums_workspace_bytes<T>(rows, n);
}

template <class T>
void column_sum(Cuda, const Launch& launch, int64_t rows, int64_t n, const T* x, int64_t ldx, T* out, Mode mode) {
  column_sums<T>(launch, rows, n, Value<T>{x, ldx}, static_cast<T*>(launch.workspace), out, mode);
}

#define MOEUT_INSTANTIATE(T)                                                \
  template size_t column_sum_workspace_bytes<T>(Cuda, int64_t, int64_t);    \
  template void column_sum<T>(Cuda, const Launch&, int64_t, int64_t, const T*, int64_t, T*, Mode);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
