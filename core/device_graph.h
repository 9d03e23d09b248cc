// Work of a device, recorded once and repeated: one call of the host instead of one for each kernel.
#pragma once

#include <functional>

#include "core/backend.h"
#include "core/device.h"

namespace moeut {

/// A CUDA graph. The kernels that a repetition runs, their shapes and their addresses are those of the recording; what
/// is to differ must lie in device memory. So what the work allocates must stay reserved: record in the scope of a
/// MemoryPool that lives as long as the graph.
class DeviceGraph {
 public:
  /// Calls `work`, whose kernels, and copies within the device, on the compute stream are recorded instead of run. It
  /// should have run once before: libraries choose and load kernels at first use. Throws BackendError if the device is
  /// not CUDA, or if the work waits for the device or copies from or to the host; what `work` throws passes through.
  DeviceGraph(Device device, const std::function<void()>& work);
  DeviceGraph(const DeviceGraph&) = delete;
  DeviceGraph& operator=(const DeviceGraph&) = delete;
  ~DeviceGraph();

  /// Queues the work after all that was given to the compute stream before.
  void repeat();

 private:
  backend::GraphHandle graph_ = nullptr;
};

}  // namespace moeut
