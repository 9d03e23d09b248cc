// Neighbouring elements read and written at once: memory is used fully only by accesses of 8 or 16 bytes a thread.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace moeut::kernels::cuda {

/// N neighbours as they lie in memory; access is by 16 bytes at the most.
template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) Vector {
  T element[N];
};

template <int N, class T>
__device__ inline void load(const T* from, Wide<T> (&to)[N]) {
  const auto vector = *reinterpret_cast<const Vector<T, N>*>(from);
#pragma unroll
  for (int i = 0; i < N; ++i) to[i] = Wide<T>(vector.element[i]);
}

template <int N, class T>
__device__ inline void store(T* to, const Wide<T> (&from)[N]) {
  Vector<T, N> vector;
#pragma unroll
  for (int i = 0; i < N; ++i) vector.element[i] = T(from[i]);
  *reinterpret_cast<Vector<T, N>*>(to) = vector;
}

/// True if every row of a matrix may be read as vectors of N from its beginning, or if there is none (null).
template <int N, class T>
bool holds_vectors(const T* matrix, int64_t row_stride) {
  return matrix == nullptr || (row_stride % N == 0 && reinterpret_cast<uintptr_t>(matrix) % alignof(Vector<T, N>) == 0);
}

}  // namespace moeut::kernels::cuda
