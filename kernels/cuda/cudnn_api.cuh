// cuDNN's backend API in C++; the only place that includes it. Every object is an opaque descriptor: created, given
// attributes, finalized.   [NVIDIA cuDNN 9, graph library]
#pragma once

#include <cudnn_graph.h>

#include "kernels/cuda/cudnn_plan.h"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

/// False if cuDNN does not support what was asked for; throws BackendError on every other failure.
inline bool supported(cudnnStatus_t status) {
  if (status == CUDNN_STATUS_SUCCESS) return true;
  if (status / 1000 == CUDNN_STATUS_NOT_SUPPORTED / 1000) return false;  // the thousands are the category
  char words[512] = {};
  cudnnGetLastErrorString(words, sizeof(words));
  throw BackendError(std::string("cudnn: ") + cudnnGetErrorString(status) + ": " + words +
                     "; a build with -DMOEUT_CUDNN=OFF does without cuDNN");
}

inline void check(cudnnStatus_t status) {
  if (!supported(status)) throw BackendError(std::string("cudnn: ") + cudnnGetErrorString(status));
}

inline CudnnDescriptor create(cudnnBackendDescriptorType_t kind) {
  void* descriptor = nullptr;
  check(cudnnBackendCreateDescriptor(kind, &descriptor));
  return CudnnDescriptor(descriptor);
}

template <class T>
void set(void* descriptor, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, const T* values,
         size_t count = 1) {
  check(cudnnBackendSetAttribute(descriptor, name, type, static_cast<int64_t>(count), values));
}
inline void set(void* descriptor, cudnnBackendAttributeName_t name, void* part) {
  set(descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, &part);
}
inline void set(void* descriptor, cudnnBackendAttributeName_t name, cudnnDataType_t type) {
  set(descriptor, name, CUDNN_TYPE_DATA_TYPE, &type);
}

}  // namespace moeut::kernels::cuda
