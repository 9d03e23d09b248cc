// A graph of operations as cuDNN compiled it: a few fused kernels.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "core/launch.h"

namespace moeut::kernels::cuda {

/// The version of the library that is loaded: 10000 · major + 100 · minor + patch.
int64_t cudnn_version();

struct CudnnRelease {
  void operator()(void* descriptor) const noexcept;
};
using CudnnDescriptor = std::unique_ptr<void, CudnnRelease>;

/// What a graph consists of, in the order in which it was made.
struct CudnnParts {
  std::vector<CudnnDescriptor> descriptors;
  std::vector<void*> operations;                                      ///< in the order of their execution
  std::vector<std::pair<int64_t, std::unique_ptr<float>>> constants;  ///< tensors that are bound to host values
};

/// For the host thread that compiled it and the device that was current.
class CudnnPlan {
 public:
  /// The plan that cuDNN thinks the fastest, or null where it has none for these operations and this device. Throws
  /// BackendError with cuDNN's words on other failures.
  static std::unique_ptr<CudnnPlan> compile(CudnnParts parts);

  struct Binding {
    int64_t operand;  ///< its number in the graph
    const void* data;
  };
  size_t workspace_bytes() const { return workspace_bytes_; }
  /// Queues the graph with its operands at these places and a workspace of workspace_bytes(). Throws BackendError.
  void run(const Launch& launch, void* workspace, std::span<const Binding> bindings) const;

 private:
  CudnnPlan(CudnnParts parts, CudnnDescriptor plan);
  CudnnParts parts_;  // the plan may refer to them
  CudnnDescriptor plan_;
  size_t workspace_bytes_ = 0;
};

}  // namespace moeut::kernels::cuda
