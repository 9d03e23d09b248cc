#include "core/memory_pool.h"

#include <algorithm>
#include <cassert>
#include <functional>

#include "core/check.h"
#include "core/memory.h"

namespace moeut {
namespace {

thread_local MemoryPool* current_pool = nullptr;

/// All pools, so that a block finds the way back. Never destroyed: static tensors may outlive any order of destruction.
struct Registry {
  std::mutex mutex;
  std::vector<MemoryPool*> pools;

  static Registry& get() {
    static auto* registry = new Registry;
    return *registry;
  }
};

/// As aligned as what CUDA hands out.
size_t rounded(size_t bytes) {
  constexpr size_t kAlignment = 256;
  return std::max<size_t>((bytes + kAlignment - 1) / kAlignment, 1) * kAlignment;
}

}  // namespace

MemoryPool::MemoryPool(Device device, size_t bytes) : device_(device) {
  require<BackendError>(!device.is_meta(), "memory pool: meta has no memory");
  if (bytes > 0) add_segment(rounded(bytes));
  Registry& registry = Registry::get();
  const std::lock_guard lock(registry.mutex);
  registry.pools.push_back(this);
}

MemoryPool::~MemoryPool() {
  assert(in_use_ == 0);
  {
    Registry& registry = Registry::get();
    const std::lock_guard lock(registry.mutex);
    std::erase(registry.pools, this);
  }
  for (const Segment& s : segments_) release_whole(device_, s.begin, s.size);
}

MemoryPool::Scope::Scope(MemoryPool* pool) : before_(current_pool) {
  if (pool != nullptr) current_pool = pool;
}

MemoryPool::Scope::~Scope() {
  current_pool = before_;
}

MemoryPool* MemoryPool::current(Device device) {
  return current_pool != nullptr && current_pool->device_ == device ? current_pool : nullptr;
}

MemoryPool* MemoryPool::owner(Device device, const void* block) {
  Registry& registry = Registry::get();
  const std::lock_guard lock(registry.mutex);
  for (MemoryPool* pool : registry.pools) {
    if (pool->device_ != device) continue;
    const std::lock_guard pool_lock(pool->mutex_);
    if (pool->segment_of(block) != nullptr) return pool;
  }
  return nullptr;
}

size_t MemoryPool::in_use() const {
  const std::lock_guard lock(mutex_);
  return in_use_;
}

size_t MemoryPool::size() const {
  const std::lock_guard lock(mutex_);
  size_t sum = 0;
  for (const Segment& s : segments_) sum += s.size;
  return sum;
}

void MemoryPool::add_segment(size_t size) {
  auto* begin = static_cast<char*>(allocate_whole(device_, size));
  segments_.push_back({begin, size, {{begin, size}}});
}

MemoryPool::Segment* MemoryPool::segment_of(const void* block) {
  const std::less<const void*> before;
  for (Segment& s : segments_) {
    if (!before(block, s.begin) && before(block, s.begin + s.size)) return &s;
  }
  return nullptr;
}

/// From the smallest hole that is large enough, the lowest of several; null if there is none.
void* MemoryPool::take(size_t size) {
  Segment* segment = nullptr;
  std::map<char*, size_t>::iterator best;
  for (Segment& s : segments_) {
    for (auto hole = s.free.begin(); hole != s.free.end(); ++hole) {
      if (hole->second < size || (segment != nullptr && hole->second >= best->second)) continue;
      segment = &s;
      best = hole;
    }
  }
  if (segment == nullptr) return nullptr;
  const auto [begin, room] = *best;
  segment->free.erase(best);
  if (room > size) segment->free.emplace(begin + size, room - size);
  return begin;
}

void* MemoryPool::allocate(size_t bytes) {
  constexpr size_t kLeastSegment = size_t{32} << 20;
  const size_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  void* block = take(size);
  if (block == nullptr) {
    add_segment(std::max(size, kLeastSegment));
    block = take(size);
  }
  in_use_ += size;
  return block;
}

void MemoryPool::release(void* block, size_t bytes) noexcept {
  const size_t size = rounded(bytes);
  const std::lock_guard lock(mutex_);
  in_use_ -= size;
  auto& free = segment_of(block)->free;
  auto hole = free.emplace(static_cast<char*>(block), size).first;
  const auto next = std::next(hole);
  if (next != free.end() && hole->first + hole->second == next->first) {
    hole->second += next->second;
    free.erase(next);
  }
  if (hole == free.begin()) return;
  const auto previous = std::prev(hole);
  if (previous->first + previous->second != hole->first) return;
  previous->second += hole->second;
  free.erase(hole);
}

}  // namespace moeut
