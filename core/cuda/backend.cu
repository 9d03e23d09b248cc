// The CUDA seam: memory, streams and copies by the CUDA runtime.
#include <cuda_runtime.h>

#include <array>
#include <atomic>
#include <mutex>
#include <string>

#include "core/backend.h"
#include "core/error.h"

namespace moeut::backend {

namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw BackendError(std::string("cuda: ") + what + ": " + cudaGetErrorString(status));
}

cudaStream_t stream_of(StreamHandle stream) {
  return static_cast<cudaStream_t>(stream == nullptr ? compute_stream() : stream);
}

cudaEvent_t event_of(EventHandle event) {
  return static_cast<cudaEvent_t>(event);
}

cudaGraphExec_t graph_of(GraphHandle graph) {
  return static_cast<cudaGraphExec_t>(graph);
}

constexpr int kMostDevices = 16;

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "asking for the device");
  if (device >= kMostDevices) throw BackendError("cuda: at most 16 devices a process");
  return device;
}

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) return 0;
  check(status, "counting devices");
  return count;
}

// Never destroyed: CUDA may be gone before static objects are. A blocking stream: what a library does in the default
// stream stays in order with it.
StreamHandle compute_stream() {
  static std::array<std::atomic<cudaStream_t>, kMostDevices> streams{};
  static std::mutex making;
  std::atomic<cudaStream_t>& stream = streams[static_cast<size_t>(current_device())];
  if (cudaStream_t made = stream.load()) return made;
  const std::lock_guard lock(making);
  if (stream.load() == nullptr) {
    cudaStream_t fresh = nullptr;
    check(cudaStreamCreate(&fresh), "creating the compute stream");
    stream.store(fresh);
  }
  return stream.load();
}

void* allocate(int device, size_t bytes) {
  void* pointer = nullptr;
  check(cudaSetDevice(device), "choosing the device");
  const cudaError_t status = cudaMalloc(&pointer, bytes);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // otherwise the next kernel's launch would be blamed for it
    return nullptr;
  }
  check(status, "allocating device memory");
  return pointer;
}

void release(int device, void* pointer) {
  check(cudaSetDevice(device), "choosing the device");
  check(cudaFree(pointer), "releasing device memory");
}

void* allocate_pinned(size_t bytes) {
  void* pointer = nullptr;
  check(cudaMallocHost(&pointer, bytes), "allocating pinned host memory");
  return pointer;
}

void release_pinned(void* pointer) {
  check(cudaFreeHost(pointer), "releasing pinned host memory");
}

StreamHandle create_stream(int device) {
  cudaStream_t stream = nullptr;
  check(cudaSetDevice(device), "choosing the device");
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
  return stream;
}

void destroy_stream(StreamHandle stream) {
  check(cudaStreamDestroy(stream_of(stream)), "destroying a stream");
}

void synchronize(StreamHandle stream) {
  check(cudaStreamSynchronize(stream_of(stream)), "waiting for a stream");
}

void copy(void* to, const void* from, size_t bytes, StreamHandle stream) {
  check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(stream)), "copying memory");
}

void fill_zero(void* pointer, size_t bytes, StreamHandle stream) {
  check(cudaMemsetAsync(pointer, 0, bytes, stream_of(stream)), "clearing memory");
}

EventHandle create_event(int device) {
  cudaEvent_t event = nullptr;
  check(cudaSetDevice(device), "choosing the device");
  check(cudaEventCreate(&event), "creating an event");
  return event;
}

void destroy_event(EventHandle event) noexcept {
  cudaEventDestroy(event_of(event));
}

void record(EventHandle event, StreamHandle stream) {
  check(cudaEventRecord(event_of(event), stream_of(stream)), "recording an event");
}

void wait(EventHandle event) {
  check(cudaEventSynchronize(event_of(event)), "waiting for an event");
}

void follow(StreamHandle stream, EventHandle event) {
  check(cudaStreamWaitEvent(stream_of(stream), event_of(event)), "ordering two streams");
}

double seconds_between(EventHandle begin, EventHandle end) {
  float milliseconds = 0;
  check(cudaEventSynchronize(event_of(end)), "waiting for an event");
  check(cudaEventElapsedTime(&milliseconds, event_of(begin), event_of(end)), "reading the time between two events");
  return static_cast<double>(milliseconds) * 1e-3;
}

// Relaxed: other threads, and the arena of this one, may ask CUDA for memory meanwhile.
void begin_recording() {
  check(cudaStreamBeginCapture(stream_of(nullptr), cudaStreamCaptureModeRelaxed), "beginning to record a graph");
}

GraphHandle end_recording() {
  cudaGraph_t recorded = nullptr;
  cudaGraphExec_t graph = nullptr;
  check(cudaStreamEndCapture(stream_of(nullptr), &recorded), "recording a graph");
  const cudaError_t status = cudaGraphInstantiate(&graph, recorded, 0);
  cudaGraphDestroy(recorded);
  check(status, "making a recorded graph runnable");
  return graph;
}

void drop_recording() noexcept {
  cudaGraph_t recorded = nullptr;
  if (cudaStreamEndCapture(stream_of(nullptr), &recorded) == cudaSuccess) cudaGraphDestroy(recorded);
  cudaGetLastError();  // the reason is on its way as an exception; what comes next must not find it here
}

bool is_recording() {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream_of(nullptr), &status), "asking whether a graph is recorded");
  return status != cudaStreamCaptureStatusNone;
}

void launch(GraphHandle graph, StreamHandle stream) {
  check(cudaGraphLaunch(graph_of(graph), stream_of(stream)), "launching a graph");
}

void destroy_graph(GraphHandle graph) noexcept {
  cudaGraphExecDestroy(graph_of(graph));
}

DeviceFacts device_facts(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "asking for a device's properties");
  return {properties.name, static_cast<size_t>(properties.l2CacheSize),
          std::string(properties.uuid.bytes, sizeof(properties.uuid.bytes))};
}

size_t free_memory(int device) {
  size_t free = 0, total = 0;
  check(cudaSetDevice(device), "choosing the device");
  check(cudaMemGetInfo(&free, &total), "asking for a device's free memory");
  return free;
}

}  // namespace moeut::backend
