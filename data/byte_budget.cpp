#include "data/byte_budget.h"

#include <algorithm>

namespace moeut {

ByteBudget::Share ByteBudget::take(uint64_t bytes) {
  bytes = std::min(bytes, bytes_);
  std::unique_lock lock(mutex_);
  const uint64_t turn = asked_++;
  changed_.wait(lock, [&] { return turn == served_ && taken_ + bytes <= bytes_; });
  taken_ += bytes;
  ++served_;
  changed_.notify_all();  // the next one may fit as well
  return {*this, bytes};
}

uint64_t ByteBudget::waiting() {
  const std::lock_guard lock(mutex_);
  return asked_ - served_;
}

void ByteBudget::give_back(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  taken_ -= bytes;
  changed_.notify_all();
}

}  // namespace moeut
