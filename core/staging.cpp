#include "core/staging.h"

#include <algorithm>
#include <cstring>

namespace moeut {

Staging& Staging::instance() {
  static auto* staging = new Staging();  // never destroyed: CUDA may be gone before static objects are
  return *staging;
}

void Staging::enlarge(Slot& slot, size_t bytes) {
  constexpr size_t kLeast = 4096;
  if (slot.pinned != nullptr) backend::release_pinned(slot.pinned);
  slot.bytes = std::max({kLeast, bytes, 2 * slot.bytes});
  slot.pinned = backend::allocate_pinned(slot.bytes);
}

void Staging::copy(int device, void* to, const void* from, size_t bytes) {
  const std::lock_guard lock(mutex_);
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % kSlots;
  if (slot.free == nullptr) {
    slot.free = backend::create_event(device);
  } else {
    backend::wait(slot.free);
  }
  if (slot.bytes < bytes) enlarge(slot, bytes);
  std::memcpy(slot.pinned, from, bytes);
  backend::copy(to, slot.pinned, bytes, nullptr);
  backend::record(slot.free, nullptr);
}

}  // namespace moeut
