// Dense matrix product.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// C (M, N) = scale · op(A) (M, K) · op(B) (K, N), row-major, op = transpose where asked; overwritten or accumulated by
/// `mode`. Out is T or Wide<T>; sums are wide. lda, ldb, ldc: elements between consecutive stored rows.
template <class T, class Out = T>
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  int64_t lda = 0;
  bool transpose_a = false;
  const T* b = nullptr;
  int64_t ldb = 0;
  bool transpose_b = false;
  Out* c = nullptr;
  int64_t ldc = 0;
  Mode mode = Mode::overwrite;
  Wide<T> scale = 1;
};

/// The same bits for any number of threads: C is cut into tiles that depend on the shape alone, each computed by one
/// BLAS call.
template <class T, class Out = T>
void gemm(Cpu, const Launch&, const Gemm<T, Out>& args);
template <class T, class Out = T>
void gemm(Cuda, const Launch&, const Gemm<T, Out>& args);

/// One product on the calling thread; for kernels that have cut the work already. Call it inside a parallel region.
template <class T>
void gemm_serial(const Gemm<T>& args);

}  // namespace moeut::kernels
