// Memory of every device: a caching arena with counters. Freed blocks are kept by size and handed out again, so that a
// training step asks the system for memory only once. With MOEUT_EXACT_MEMORY in the environment nothing is kept and
// blocks have exactly the size asked for: slow, and what tools that watch memory want.
#pragma once

#include <cstddef>

#include "core/device.h"

namespace moeut {

/// What an arena holds, in bytes. `in_use` and `peak` count blocks handed out, `reserved` what was had from the system.
struct MemoryStats {
  size_t in_use = 0;
  size_t peak = 0;
  size_t reserved = 0;
};

/// True if MOEUT_EXACT_MEMORY is set: blocks are then of exactly the size asked for and go back to the system at once,
/// so that tools which watch memory (compute-sanitizer) see where each tensor ends and when it does.
bool memory_is_exact();

/// Bytes that this process could have in use on the device at this moment: CUDA: what it has and what is free; CPU: the
/// physical memory, or less where the address space is limited (ulimit -v).
size_t attainable_memory(Device device);

/// At least `bytes` bytes, uninitialised, aligned to 64 (CUDA: 256): the arena's, or those of the MemoryPool in whose
/// scope the thread is. Thread-safe. Throws OutOfMemory naming the size and what is in use.
void* allocate(Device device, size_t bytes);
/// Gives a block back to where it came from; in stream order on CUDA. Never throws.
void release(Device device, void* pointer, size_t bytes) noexcept;
/// The same for exactly `bytes` bytes, had from the system and given back to it (CUDA then waits for what uses them).
void* allocate_whole(Device device, size_t bytes);
void release_whole(Device device, void* pointer, size_t bytes) noexcept;
/// Returns cached blocks to the system.
void trim(Device device);

MemoryStats memory_stats(Device device);
/// Sets the peak back to what is in use now.
void reset_peak(Device device);

/// Copies between any two devices, in the order of the compute stream. `from` may be reused, and on the host `to` be
/// read, when it returns. On meta nothing is copied. Throws BackendError if it is to or from the host while a graph is
/// recorded.
void copy_bytes(Device to_device, void* to, Device from_device, const void* from, size_t bytes);
/// Waits for all work queued on the device.
void synchronize(Device device);
void zero_bytes(Device device, void* pointer, size_t bytes);

}  // namespace moeut
