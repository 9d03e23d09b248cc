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
  __device__ Wide<T> operator()(int64_t row, int64_t column) const { return x[row * ldx + column]; }
};

}  // namespace

template <class T>
size_t column_sum_workspace_bytes(Cuda, int64_t rows, int64_t n) {
  return column_sums_workspace_bytes<Wide<T>>(rows, n);
}

template <class T>
void column_sum(Cuda, const Launch& launch, int64_t rows, int64_t n, const T* x, int64_t ldx, Wide<T>* out, Mode mode) {
  column_sums(launch, rows, n, Value<T>{x, ldx}, static_cast<Wide<T>*>(launch.workspace), out, mode);
}

#define MOEUT_INSTANTIATE(T)                                             \
  template size_t column_sum_workspace_bytes<T>(Cuda, int64_t, int64_t); \
  template void column_sum<T>(Cuda, const Launch&, int64_t, int64_t, const T*, int64_t, Wide<T>*, Mode);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
