#include "kernels/cuda/cudnn_plan.h"

#include "kernels/cuda/cudnn_api.cuh"

namespace moeut::kernels::cuda {

namespace {

/// One handle a host thread and device, which lives as long as the process (see kernels/cuda/gemm.cu).
cudnnHandle_t current_handle() {
  constexpr int kMostDevices = 16;
  thread_local cudnnHandle_t handles[kMostDevices] = {};
  int device = 0;
  cudaGetDevice(&device);
  if (device >= kMostDevices) throw BackendError("cudnn: more than 16 CUDA devices in a process");
  if (handles[device] == nullptr) check(cudnnCreate(&handles[device]));
  return handles[device];
}

/// Engines for a graph with their settings, the fastest first by cuDNN's own model; none where it has no engine for it.
std::vector<CudnnDescriptor> find_engines(void* graph) {
  const CudnnDescriptor query = create(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
  constexpr cudnnBackendHeurMode_t kMode = CUDNN_HEUR_MODE_A;
  set(query.get(), CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
  set(query.get(), CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, &kMode);
  if (!supported(cudnnBackendFinalize(query.get()))) return {};
  const auto results = [&](int64_t room, void** to) {
    int64_t count = 0;
    check(cudnnBackendGetAttribute(query.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, room,
                                   &count, to));
    return count;
  };
  std::vector<CudnnDescriptor> engines(static_cast<size_t>(results(0, nullptr)));
  std::vector<void*> raw;
  for (CudnnDescriptor& e : engines) raw.push_back((e = create(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)).get());
  engines.resize(
      static_cast<size_t>(results(static_cast<int64_t>(raw.size()), raw.data())));  // fewer if some fail here
  return engines;
}

/// Null if the engine turns out not to support the graph. This compiles kernels: it takes up to a second.
CudnnDescriptor build_plan(void* engine, cudnnHandle_t handle) {
  CudnnDescriptor plan = create(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
  set(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, &handle);
  set(plan.get(), CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, engine);
  return supported(cudnnBackendFinalize(plan.get())) ? std::move(plan) : nullptr;
}

}  // namespace

int64_t cudnn_version() {
  return static_cast<int64_t>(cudnnGetVersion());
}

void CudnnRelease::operator()(void* descriptor) const noexcept {
  cudnnBackendDestroyDescriptor(descriptor);
}

CudnnPlan::CudnnPlan(CudnnParts parts, CudnnDescriptor plan) : parts_(std::move(parts)), plan_(std::move(plan)) {
  int64_t bytes = 0, count = 0;
  check(cudnnBackendGetAttribute(plan_.get(), CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                 &bytes));
  workspace_bytes_ = static_cast<size_t>(bytes);
}

std::unique_ptr<CudnnPlan> CudnnPlan::compile(CudnnParts parts) {
  const cudnnHandle_t handle = current_handle();
  void* graph = parts.descriptors.emplace_back(create(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)).get();
  set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, &handle);
  set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, parts.operations.data(),
      parts.operations.size());
  if (!supported(cudnnBackendFinalize(graph))) return nullptr;
  for (CudnnDescriptor& engine : find_engines(graph)) {
    CudnnDescriptor plan = build_plan(engine.get(), handle);
    if (plan == nullptr) continue;
    parts.descriptors.push_back(std::move(engine));
    return std::unique_ptr<CudnnPlan>(new CudnnPlan(std::move(parts), std::move(plan)));
  }
  return nullptr;
}

void CudnnPlan::run(const Launch& launch, void* workspace, std::span<const Binding> bindings) const {
  std::vector<int64_t> numbers;
  std::vector<const void*> places;
  const auto bind = [&](int64_t number, const void* place) {
    numbers.push_back(number);
    places.push_back(place);
  };
  for (const Binding& b : bindings) bind(b.operand, b.data);
  for (const auto& [number, value] : parts_.constants) bind(number, value.get());
  const CudnnDescriptor pack = create(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
  set(pack.get(), CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, numbers.data(), numbers.size());
  set(pack.get(), CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, places.data(), places.size());
  set(pack.get(), CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, &workspace);
  check(cudnnBackendFinalize(pack.get()));
  const cudnnHandle_t handle = current_handle();
  check(cudnnSetStream(handle, stream_of(launch)));
  check(cudnnBackendExecute(handle, plan_.get(), pack.get()));
}

}  // namespace moeut::kernels::cuda
