#include "core/memory.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "core/backend.h"
#include "core/check.h"
#include "core/memory_pool.h"
#include "core/staging.h"

namespace moeut {

bool memory_is_exact() {
  static const bool exact = std::getenv("MOEUT_EXACT_MEMORY") != nullptr;
  return exact;
}

namespace {

/// Blocks are rounded up to one of eight sizes per power of two (at most 12.5 % waste), so that a later request of
/// about the same size fits.
size_t block_size(size_t bytes) {
  constexpr size_t kSmallest = 256;
  if (memory_is_exact()) return std::max<size_t>(bytes, 1);
  if (bytes <= kSmallest) return kSmallest;
  const size_t step = std::bit_floor(bytes) / 8;
  return (bytes + step - 1) / step * step;
}

class Arena {
 public:
  void* allocate(Device device, size_t bytes) {
    const size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    void* pointer = take_cached(size);
    if (pointer == nullptr) pointer = from_system(device, size);
    stats_.in_use += size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return pointer;
  }

  void release(Device device, void* pointer, size_t bytes) noexcept {
    const size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    stats_.in_use -= size;
    if (memory_is_exact()) return give_back_quietly(device, pointer, size);
    cached_[size].push_back(pointer);
  }

  void* allocate_whole(Device device, size_t size) {
    const std::lock_guard lock(mutex_);
    void* pointer = from_system(device, size);
    stats_.in_use += size;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return pointer;
  }

  void release_whole(Device device, void* pointer, size_t size) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.in_use -= size;
    give_back_quietly(device, pointer, size);
  }

  void trim(Device device) {
    const std::lock_guard lock(mutex_);
    give_back_cached(device);
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }

 private:
  void* take_cached(size_t size) {
    const auto found = cached_.find(size);
    if (found == cached_.end() || found->second.empty()) return nullptr;
    void* pointer = found->second.back();
    found->second.pop_back();
    return pointer;
  }

  void* from_system(Device device, size_t size) {
    void* pointer = system_allocate(device, size);
    if (pointer == nullptr) {  // blocks of other sizes may be lying idle
      give_back_cached(device);
      pointer = system_allocate(device, size);
    }
    require<OutOfMemory>(pointer != nullptr,
                         "out of memory on {}: {} MiB were asked for with {} MiB in use; set train.recompute, or lower "
                         "train.micro_batch_size or train.seq_len",
                         device.str(), size >> 20, stats_.in_use >> 20);
    stats_.reserved += size;
    return pointer;
  }

  static void* system_allocate(Device device, size_t size) {
    if (device.is_cuda()) return backend::allocate(device.index(), size);
    return std::aligned_alloc(64, (size + 63) / 64 * 64);
  }

  /// (CUDA waits for what still uses the block.)
  void give_back(Device device, void* pointer, size_t size) {
    device.is_cuda() ? backend::release(device.index(), pointer) : std::free(pointer);
    stats_.reserved -= size;
  }

  /// A device that has failed takes nothing back.
  void give_back_quietly(Device device, void* pointer, size_t size) noexcept {
    try {
      give_back(device, pointer, size);
    } catch (const BackendError&) {
    }
  }

  void give_back_cached(Device device) {
    for (auto& [size, blocks] : cached_) {
      for (void* pointer : blocks) give_back(device, pointer, size);
      blocks.clear();
    }
  }

  std::mutex mutex_;
  std::map<size_t, std::vector<void*>> cached_;
  MemoryStats stats_;
};

/// Counts without having: addresses are handed out that nobody reads.
class MetaArena {
 public:
  void* allocate(size_t bytes) {
    const std::lock_guard lock(mutex_);
    stats_.in_use += block_size(bytes);
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return reinterpret_cast<void*>(uintptr_t{4096});
  }
  void release(size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.in_use -= block_size(bytes);
  }
  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }

 private:
  std::mutex mutex_;
  MemoryStats stats_;
};

// Never destroyed: tensors with static lifetime may outlive any order of destruction.
Arena& arena(Device device) {
  constexpr int kMaxDevices = 16;
  static auto* arenas = new std::array<Arena, kMaxDevices + 1>;
  require<BackendError>(device.index() < kMaxDevices, "device {}: at most {} devices a process", device.str(),
                        kMaxDevices);
  return (*arenas)[device.is_cuda() ? static_cast<size_t>(device.index()) + 1 : 0];
}

MetaArena& meta_arena() {
  static auto* arena = new MetaArena;
  return *arena;
}

}  // namespace

void* allocate(Device device, size_t bytes) {
  if (MemoryPool* pool = MemoryPool::current(device)) return pool->allocate(bytes);
  return device.is_meta() ? meta_arena().allocate(bytes) : arena(device).allocate(device, bytes);
}

void release(Device device, void* pointer, size_t bytes) noexcept {
  if (MemoryPool* pool = MemoryPool::owner(device, pointer)) return pool->release(pointer, bytes);
  device.is_meta() ? meta_arena().release(bytes) : arena(device).release(device, pointer, bytes);
}

void* allocate_whole(Device device, size_t bytes) {
  return arena(device).allocate_whole(device, bytes);
}

void release_whole(Device device, void* pointer, size_t bytes) noexcept {
  arena(device).release_whole(device, pointer, bytes);
}

void trim(Device device) {
  if (!device.is_meta()) arena(device).trim(device);
}

MemoryStats memory_stats(Device device) {
  return device.is_meta() ? meta_arena().stats() : arena(device).stats();
}

size_t attainable_memory(Device device) {
  if (device.is_cuda()) return backend::free_memory(device.index()) + arena(device).stats().reserved;
  const size_t physical = static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE));
  struct rlimit limit = {};
  const bool limited = getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY;
  return limited ? std::min<size_t>(physical, limit.rlim_cur) : physical;
}

void reset_peak(Device device) {
  device.is_meta() ? meta_arena().reset_peak() : arena(device).reset_peak();
}

void copy_bytes(Device to_device, void* to, Device from_device, const void* from, size_t bytes) {
  if (bytes == 0 || to_device.is_meta() || from_device.is_meta()) return;
  if (to_device.is_cpu() && from_device.is_cpu()) {
    std::memcpy(to, from, bytes);
    return;
  }
  const bool with_host = from_device.is_cpu() || to_device.is_cpu();
  require<BackendError>(
      !with_host || !backend::is_recording(),
      "copy: {} bytes from {} to {} while a graph is recorded, which would repeat only today's values; "
      "copy them before",
      bytes, from_device.str(), to_device.str());
  if (from_device.is_cpu() && bytes <= Staging::kLargest)
    return Staging::instance().copy(to_device.index(), to, from, bytes);
  backend::copy(to, from, bytes, nullptr);
  if (with_host) backend::synchronize(nullptr);
}

void synchronize(Device device) {
  if (device.is_cuda()) backend::synchronize(nullptr);
}

void zero_bytes(Device device, void* pointer, size_t bytes) {
  if (bytes == 0 || device.is_meta()) return;
  if (device.is_cpu()) {
    std::memset(pointer, 0, bytes);
    return;
  }
  backend::fill_zero(pointer, bytes, nullptr);
}

}  // namespace moeut
