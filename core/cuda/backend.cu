// The CUDA seam: memory, streams and copies by the CUDA runtime.
#include <cuda_runtime.h>

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
  return static_cast<cudaStream_t>(stream);
}

cudaEvent_t event_of(EventHandle event) {
  return static_cast<cudaEvent_t>(event);
}

}  // namespace

int device_count() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorNoDevice || status == cudaErrorInsufficientDriver) return 0;
  check(status, "counting devices");
  return count;
}

void* allocate(int device, size_t bytes) {
  void* pointer = nullptr;
  check(cudaSetDevice(device), "choosing the device");
  check(cudaMalloc(&pointer, bytes), "allocating device memory");
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

double seconds_between(EventHandle begin, EventHandle end) {
  float milliseconds = 0;
  check(cudaEventSynchronize(event_of(end)), "waiting for an event");
  check(cudaEventElapsedTime(&milliseconds, event_of(begin), event_of(end)), "reading the time between two events");
  return static_cast<double>(milliseconds) * 1e-3;
}

DeviceFacts device_facts(int device) {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, device), "asking for a device's properties");
  return {properties.name, static_cast<size_t>(properties.l2CacheSize)};
}

}  // namespace moeut::backend
