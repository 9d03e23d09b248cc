// A bound on the bytes that several threads work on at once.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace moeut {

/// Threads take shares of so many bytes, in the order in which they ask, and wait while the rest does not suffice. What
/// is larger than everything gets everything: it goes alone. For any number of threads.
class ByteBudget {
 public:
  explicit ByteBudget(uint64_t bytes) : bytes_(bytes) {}

  /// Given back by its destructor.
  class Share {
   public:
    Share(ByteBudget& budget, uint64_t bytes) : budget_(budget), bytes_(bytes) {}
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;
    ~Share() { budget_.give_back(bytes_); }

   private:
    ByteBudget& budget_;
    uint64_t bytes_;
  };

  /// Waits for it. A thread that holds a share must not ask for another one.
  [[nodiscard]] Share take(uint64_t bytes);
  /// Threads that wait for theirs.
  uint64_t waiting();

 private:
  void give_back(uint64_t bytes);

  const uint64_t bytes_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t taken_ = 0;
  uint64_t asked_ = 0, served_ = 0;  ///< requests: a large one is not passed by small ones for ever
};

}  // namespace moeut
