// Memory set apart from the arena's: what a recorded graph uses must go to nobody else while the graph lives.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

#include "core/device.h"

namespace moeut {

/// Large segments, cut into blocks by best fit; freed neighbours become one again. A training step, whose requests are
/// the same each time, so takes hardly more than what it uses at once (an arena of sizes takes a tenth to a third
/// more). The arena's counters know a pool by its segments, used or not. Thread-safe.
class MemoryPool {
 public:
  /// Has `bytes` of a CPU or CUDA device from the start, and asks for more where they do not suffice. Throws
  /// BackendError if they are not there.
  MemoryPool(Device device, size_t bytes);
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;
  /// Nothing of it may be in use any more.
  ~MemoryPool();

  size_t in_use() const;  ///< bytes handed out
  size_t size() const;    ///< bytes of its segments

  /// While it lives, what this thread allocates on the pool's device comes from the pool. Null: nothing changes.
  class Scope {
   public:
    explicit Scope(MemoryPool* pool);
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;
    ~Scope();

   private:
    MemoryPool* before_;
  };

  /// The pool that this thread allocates from on `device`; null: the arena.
  static MemoryPool* current(Device device);
  /// The pool that a block of `device` came from; null: the arena.
  static MemoryPool* owner(Device device, const void* block);
  void* allocate(size_t bytes);
  /// What comes next may use the block after all that was queued before (on CUDA, in stream order).
  void release(void* block, size_t bytes) noexcept;

 private:
  struct Segment {
    char* begin = nullptr;
    size_t size = 0;
    std::map<char*, size_t> free;  // by address
  };
  void add_segment(size_t size);
  void* take(size_t size);
  Segment* segment_of(const void* block);

  Device device_;
  mutable std::mutex mutex_;
  std::vector<Segment> segments_;
  size_t in_use_ = 0;
};

}  // namespace moeut
