// Dense matrix product by cuBLAS, the only place that includes it.
#include "kernels/gemm.h"

#include <cublas_v2.h>

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) throw BackendError(std::string("gemm: cublas: ") + cublasGetStatusString(status));
}

/// One handle a host thread and device; it lives as long as the process, since CUDA may be gone before static objects
/// are.
cublasHandle_t handle_on(cudaStream_t stream) {
  constexpr int kMostDevices = 16;
  thread_local cublasHandle_t handles[kMostDevices] = {};
  int device = 0;
  cudaGetDevice(&device);
  if (device >= kMostDevices) throw BackendError("gemm: more than 16 CUDA devices in a process");
  if (handles[device] == nullptr) check(cublasCreate(&handles[device]));
  check(cublasSetStream(handles[device], stream));
  return handles[device];
}

cublasOperation_t operation(bool transpose) {
  return transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
}

cublasStatus_t product(cublasHandle_t handle, const Gemm<float>& g, const float* beta) {
  return cublasSgemm(handle, operation(g.transpose_b), operation(g.transpose_a), static_cast<int>(g.n),
                     static_cast<int>(g.m), static_cast<int>(g.k), &g.scale, g.b, static_cast<int>(g.ldb), g.a,
                     static_cast<int>(g.lda), beta, g.c, static_cast<int>(g.ldc));
}
cublasStatus_t product(cublasHandle_t handle, const Gemm<double>& g, const double* beta) {
  return cublasDgemm(handle, operation(g.transpose_b), operation(g.transpose_a), static_cast<int>(g.n),
                     static_cast<int>(g.m), static_cast<int>(g.k), &g.scale, g.b, static_cast<int>(g.ldb), g.a,
                     static_cast<int>(g.lda), beta, g.c, static_cast<int>(g.ldc));
}

}  // namespace

// cuBLAS is column-major: it sees Cᵀ = op(B)ᵀ · op(A)ᵀ.
template <class T>
void gemm(Cuda, const Launch& launch, const Gemm<T>& args) {
  if (args.m == 0 || args.n == 0) return;
  const T beta = args.mode == Mode::accumulate ? T(1) : T(0);
  check(product(handle_on(cuda::stream_of(launch)), args, &beta));
}

template void gemm<float>(Cuda, const Launch&, const Gemm<float>&);
template void gemm<double>(Cuda, const Launch&, const Gemm<double>&);

}  // namespace moeut::kernels
