// One line on a terminal that says how far a long read has come; silent anywhere else.
#pragma once

#include <chrono>
#include <cstdint>

namespace moeut {

/// Writes to standard error, at most five times a second, and only if that is a terminal: bytes of input read, MB/s,
/// time left. One thread.
class ProgressLine {
 public:
  explicit ProgressLine(const char* what);
  ~ProgressLine();  // clears the line
  void update(uint64_t bytes_done, uint64_t bytes_total);

 private:
  const char* what_;
  bool terminal_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point start_, last_;
};

}  // namespace moeut
