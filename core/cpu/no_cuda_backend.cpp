// The CUDA seam of a build without a CUDA compiler.
#include "core/backend.h"
#include "core/error.h"

#ifndef MOEUT_HAS_CUDA_RUNTIME  // set by CMake for the builds that take core/cuda/backend.cu instead

namespace moeut::backend {

namespace {
[[noreturn]] void absent() {
  throw BackendError("this build has no CUDA backend; configure where nvcc is on the PATH, or use device: cpu");
}
}  // namespace

int device_count() {
  return 0;
}
StreamHandle compute_stream() {
  absent();
}
void* allocate(int, size_t) {
  absent();
}
void release(int, void*) {
  absent();
}
void* allocate_pinned(size_t) {
  absent();
}
void release_pinned(void*) {
  absent();
}
StreamHandle create_stream(int) {
  absent();
}
void destroy_stream(StreamHandle) {
  absent();
}
void synchronize(StreamHandle) {
  absent();
}
void copy(void*, const void*, size_t, StreamHandle) {
  absent();
}
void fill_zero(void*, size_t, StreamHandle) {
  absent();
}
EventHandle create_event(int) {
  absent();
}
void destroy_event(EventHandle) noexcept {}
void record(EventHandle, StreamHandle) {
  absent();
}
void wait(EventHandle) {
  absent();
}
void follow(StreamHandle, EventHandle) {
  absent();
}
double seconds_between(EventHandle, EventHandle) {
  absent();
}
void begin_recording() {
  absent();
}
GraphHandle end_recording() {
  absent();
}
void drop_recording() noexcept {}
bool is_recording() {
  return false;
}
void launch(GraphHandle, StreamHandle) {
  absent();
}
void destroy_graph(GraphHandle) noexcept {}
DeviceFacts device_facts(int) {
  absent();
}
size_t free_memory(int) {
  absent();
}

}  // namespace moeut::backend

#endif
