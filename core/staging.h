// Pinned host memory through which small copies go to a device without the host waiting for them.
#pragma once

#include <array>
#include <cstddef>
#include <mutex>

#include "core/backend.h"

namespace moeut {

/// A ring of pinned buffers. A copy takes the next one, and waits only if that one's last copy is still under way: the
/// host runs ahead of the device by at most kSlots copies. Thread-safe; lives as long as the process.
class Staging {
 public:
  static constexpr size_t kLargest = 4 << 20;  ///< bytes of one copy: the ids of 1,024 sequences of 1,024 tokens

  static Staging& instance();
  /// To memory of CUDA device `device`, in the order of its compute stream; `from` may be reused on return.
  void copy(int device, void* to, const void* from, size_t bytes);

 private:
  static constexpr size_t kSlots = 16;
  struct Slot {
    void* pinned = nullptr;
    size_t bytes = 0;
    backend::EventHandle free = nullptr;
  };
  static void enlarge(Slot& slot, size_t bytes);

  std::mutex mutex_;
  std::array<Slot, kSlots> slots_;
  size_t next_ = 0;
};

}  // namespace moeut
