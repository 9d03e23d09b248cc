#include "data/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace moeut {

using Clock = std::chrono::steady_clock;

ProgressLine::ProgressLine(const char* what)
    : what_(what), terminal_(isatty(STDERR_FILENO) == 1), start_(Clock::now()), last_(start_) {}

ProgressLine::~ProgressLine() {
  if (shown_) fmt::print(stderr, "\r\033[K");
}

void ProgressLine::update(uint64_t bytes_done, uint64_t bytes_total) {
  const auto now = Clock::now();
  if (!terminal_ || now - last_ < std::chrono::milliseconds(200)) return;
  last_ = now;
  shown_ = true;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = static_cast<double>(bytes_done) / seconds;
  const double share = static_cast<double>(bytes_done) / static_cast<double>(std::max<uint64_t>(bytes_total, 1));
  const double left = rate > 0 ? static_cast<double>(bytes_total - std::min(bytes_done, bytes_total)) / rate : 0;
  fmt::print(stderr, "\r\033[K{} {:3.0f} %  {:.1f}/{:.1f} MB  {:.2f} MB/s  {:02}:{:02} left", what_, 100 * share,
             static_cast<double>(bytes_done) / 1e6, static_cast<double>(bytes_total) / 1e6, rate / 1e6,
             static_cast<int>(left) / 60, static_cast<int>(left) % 60);
  std::fflush(stderr);
}

}  // namespace moeut
