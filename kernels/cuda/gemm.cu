// Dense matrix product by cuBLAS, the only place that includes it.
#include "kernels/gemm.h"

#include <cublas_v2.h>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/library_results.cuh"

namespace moeut::kernels {

namespace {

void check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS)
    throw BackendError(std::string("gemm: cublas: ") + cublasGetStatusString(status));
}

/// cuBLAS's handle of one thread and device. Its workspace is ours: cuBLAS would take one of its own anew for every
/// graph that is recorded, and chooses kernels by its size. So all products of a thread must be in one stream at a
/// time.
struct Handle {
  cublasHandle_t cublas = nullptr;
  void* workspace = nullptr;
  cudaStream_t stream = nullptr;
};
constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // NVIDIA's advice for Hopper

/// It lives as long as the process, since CUDA may be gone before static objects are.
cublasHandle_t handle_on(cudaStream_t stream) {
  constexpr int kMostDevices = 16;
  thread_local Handle handles[kMostDevices] = {};
  int device = 0;
  cudaGetDevice(&device);
  if (device >= kMostDevices) throw BackendError("gemm: more than 16 CUDA devices in a process");
  Handle& handle = handles[device];
  if (handle.workspace == nullptr) handle.workspace = backend::allocate(device, kWorkspaceBytes);
  if (handle.workspace == nullptr) throw OutOfMemory("gemm: no 32 MiB are free on the GPU for cuBLAS's workspace");
  if (handle.cublas == nullptr) check(cublasCreate(&handle.cublas));
  if (handle.stream != stream) {  // which takes cuBLAS back to its own workspace
    check(cublasSetStream(handle.cublas, stream));
    check(cublasSetWorkspace(handle.cublas, handle.workspace, kWorkspaceBytes));
    handle.stream = stream;
  }
  return handle.cublas;
}

cublasOperation_t operation(bool transpose) {
  return transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
}

template <class T>
constexpr cudaDataType_t kDataType = CUDA_R_32F;
template <>
constexpr cudaDataType_t kDataType<double> = CUDA_R_64F;
template <>
constexpr cudaDataType_t kDataType<BFloat16> = CUDA_R_16BF;
template <>
constexpr cudaDataType_t kDataType<Float16> = CUDA_R_16F;

template <class T>
constexpr cublasComputeType_t kCompute = CUBLAS_COMPUTE_32F;
template <>
constexpr cublasComputeType_t kCompute<double> = CUBLAS_COMPUTE_64F;
template <>
constexpr cublasComputeType_t kCompute<TFloat32> = CUBLAS_COMPUTE_32F_FAST_TF32;

}  // namespace

// cuBLAS is column-major: it sees Cᵀ = op(B)ᵀ · op(A)ᵀ.
template <class T, class Out>
void gemm(Cuda, const Launch& launch, const Gemm<T, Out>& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.mode == Mode::overwrite) {
    const auto rows = static_cast<size_t>(g.m), pitch = static_cast<size_t>(g.ldc) * sizeof(Out);
    cuda::announce_results(launch, g.c, pitch, static_cast<size_t>(g.n) * sizeof(Out), rows);
  }
  const Wide<T> alpha = g.scale, beta = g.mode == Mode::accumulate ? 1 : 0;
  check(cublasGemmEx(handle_on(cuda::stream_of(launch)), operation(g.transpose_b), operation(g.transpose_a),
                     static_cast<int>(g.n), static_cast<int>(g.m), static_cast<int>(g.k), &alpha, g.b, kDataType<T>,
                     static_cast<int>(g.ldb), g.a, kDataType<T>, static_cast<int>(g.lda), &beta, g.c, kDataType<Out>,
                     static_cast<int>(g.ldc), kCompute<T>, CUBLAS_GEMM_DEFAULT));
}

template void gemm<float>(Cuda, const Launch&, const Gemm<float>&);
template void gemm<double>(Cuda, const Launch&, const Gemm<double>&);
#define MOEUT_INSTANTIATE(T)                                  \
  template void gemm<T>(Cuda, const Launch&, const Gemm<T>&); \
  template void gemm<T, float>(Cuda, const Launch&, const Gemm<T, float>&);
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
