// The seam to a device: raw memory, streams, copies. One implementation a backend, chosen by CMake:
// core/cuda/backend.cu where nvcc is found, else core/cpu/no_cuda_backend.cpp, whose functions throw BackendError.
// (No fmt here and in .cu files.)
#pragma once

#include <cstddef>
#include <string>

namespace moeut::backend {

/// An opaque queue of device work (a cudaStream_t). Null stands for compute_stream(); the CPU's is always null.
using StreamHandle = void*;

int device_count();
/// The stream in which all work of the calling thread's device is queued unless another is named; made on first use. It
/// is a stream of its own, as CUDA's default stream cannot be recorded, and keeps order with that one.
StreamHandle compute_stream();
/// Null if the device has no room for it.
void* allocate(int device, size_t bytes);
void release(int device, void* pointer);
void* allocate_pinned(size_t bytes);
void release_pinned(void* pointer);
StreamHandle create_stream(int device);
void destroy_stream(StreamHandle stream);
void synchronize(StreamHandle stream);
/// Any direction between host and device, in stream order.
void copy(void* to, const void* from, size_t bytes, StreamHandle stream);
void fill_zero(void* pointer, size_t bytes, StreamHandle stream);

/// An opaque moment in a stream (a cudaEvent_t).
using EventHandle = void*;
EventHandle create_event(int device);
void destroy_event(EventHandle event) noexcept;
/// The moment when the stream has done all that it was given so far.
void record(EventHandle event, StreamHandle stream);
/// Waits for what was in the stream when the event was last recorded.
void wait(EventHandle event);
/// What the stream is given from now on begins after that moment; nobody waits.
void follow(StreamHandle stream, EventHandle event);
/// Waits for `end`, which like `begin` has been recorded; the device's own clock, to about half a microsecond.
double seconds_between(EventHandle begin, EventHandle end);

/// An opaque recording of device work that can be run again and again (a cudaGraphExec_t).
using GraphHandle = void*;
/// From here on what this thread gives to its compute stream is recorded instead of run, until end_recording() or
/// drop_recording(). Waiting for the stream is an error meanwhile.
void begin_recording();
GraphHandle end_recording();
void drop_recording() noexcept;
bool is_recording();
void launch(GraphHandle graph, StreamHandle stream);
/// What runs of it goes on.
void destroy_graph(GraphHandle graph) noexcept;

/// What a device is.
struct DeviceFacts {
  std::string name;
  size_t cache_bytes = 0;  ///< of its last-level cache
  std::string id = {};     ///< tells it from all others of the machine
};
DeviceFacts device_facts(int device);
/// Bytes of the device's memory that nobody has.
size_t free_memory(int device);

}  // namespace moeut::backend
