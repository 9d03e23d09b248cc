// What compute-sanitizer needs to be told about the results of library kernels.
#pragma once

#include "core/memory.h"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

/// Does nothing but under MOEUT_EXACT_MEMORY: then zeros go to what a library's kernel is about to overwrite, `rows` of
/// `row_bytes` at a distance of `pitch` bytes. initcheck does not see bulk copies from shared memory (TMA, sm_90), by
/// which cuBLAS and cuDNN write, and would take all that is computed from their results for never written.
inline void announce_results(const Launch& launch, void* results, size_t pitch, size_t row_bytes, size_t rows) {
  if (!memory_is_exact() || rows == 0 || row_bytes == 0) return;
  const cudaError_t status = cudaMemset2DAsync(results, pitch, 0, row_bytes, rows, stream_of(launch));
  if (status != cudaSuccess) throw BackendError(std::string("announce_results: cuda: ") + cudaGetErrorString(status));
}

}  // namespace moeut::kernels::cuda
