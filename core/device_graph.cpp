#include "core/device_graph.h"

#include "core/check.h"

namespace moeut {

DeviceGraph::DeviceGraph(Device device, const std::function<void()>& work) {
  require<BackendError>(device.is_cuda(), "graph: work on {} cannot be recorded, only that of CUDA devices",
                        device.str());
  backend::begin_recording();
  try {
    work();
  } catch (...) {
    backend::drop_recording();
    throw;
  }
  graph_ = backend::end_recording();
}

DeviceGraph::~DeviceGraph() {
  backend::destroy_graph(graph_);
}

void DeviceGraph::repeat() {
  backend::launch(graph_, nullptr);
}

}  // namespace moeut
