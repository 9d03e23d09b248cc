// How far a long read has come: one line on a terminal, a line now and then in a log.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace moeut {

/// Writes to a stream, standard error unless told otherwise. On a terminal one line that is replaced, at most five
/// times a second, and cleared at the end; elsewhere a line every 30 s. Share of the input that is read, MB of text,
/// MB/s of text, time left; without share and time left if the size of the input is unknown. Speed and time left count
/// from the first update, so that what an earlier process did is not taken for speed. One thread.
class ProgressLine {
 public:
  using Clock = std::chrono::steady_clock;

  /// `out` is not closed; `now` tells the time.
  explicit ProgressLine(std::string what, std::FILE* out = stderr, std::function<Clock::time_point()> now = Clock::now);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;

  /// Bytes of input, read and all (0: unknown), and bytes of text in what was read.
  void update(uint64_t input_done, uint64_t input_total, uint64_t text_bytes);

 private:
  std::string what_;
  std::FILE* out_;
  std::function<Clock::time_point()> now_;
  bool terminal_;
  bool started_ = false, shown_ = false;
  Clock::time_point start_, last_;
  uint64_t first_input_ = 0, first_text_ = 0;  ///< at the first update
};

/// "12 %  34.5 MB  6.78 MB/s  1:02:03 left", or "34.5 MB  6.78 MB/s" if `input_total` is 0. Of `input_done` and
/// `text_bytes`, `input_before` and `text_before` were done when the `seconds` began.
std::string describe_progress(double seconds, uint64_t input_before, uint64_t input_done, uint64_t input_total,
                              uint64_t text_before, uint64_t text_bytes);

}  // namespace moeut
