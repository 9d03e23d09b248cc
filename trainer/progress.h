// What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

namespace moeut {

/// The stream that log lines and the bar share, so that a line never lands in the middle of the bar. Thread-safe.
class Terminal {
 public:
  /// Draws bars if `stream` is a terminal (and TERM is not "dumb").
  explicit Terminal(std::FILE* stream = stderr);
  Terminal(std::FILE* stream, bool draws_bars) : stream_(stream), draws_bars_(draws_bars) {}
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  bool draws_bars() const { return draws_bars_; }
  /// Columns; 80 if the stream does not know.
  int width() const;
  /// Text of whole lines, with their newlines, above the bar.
  void print(std::string_view lines);
  /// Replaces the bar; nothing happens where bars are not drawn.
  void draw_bar(std::string_view bar);
  /// Ends the bar's line: what comes next starts below it.
  void finish_bar();

 private:
  std::mutex mutex_;
  std::FILE* stream_;
  bool draws_bars_;
  std::string bar_;  // now on the screen; empty: none
};

/// What the progress display knows of a run.
struct ProgressState {
  int64_t step = 0;
  int64_t steps = 0;
  double loss = 0;          // nats per token
  double tokens_per_s = 0;  // of the last step
  double eta_s = -1;        // negative: not known yet
};

/// "step 120/1000  loss 3.2140  12.3k tokens/s  ETA 1:02:03"
std::string progress_line(const ProgressState& state);
/// The same behind a bar, at most `width` columns; the bar gives way first.
std::string progress_bar(const ProgressState& state, int width);
/// "45s", "12:34", "5:12:34", "3d 04:05"; "--" for a negative number.
std::string duration_text(double seconds);
/// "950", "12.3k", "4.56M"
std::string short_number(double value);

/// Shows the course of a run. The estimate of the time left counts this process's steps alone, so it holds after a
/// resume.
class Progress {
 public:
  using Clock = std::chrono::steady_clock;
  struct Options {
    int64_t first_step = 0;  // steps done before this process began
    int64_t steps = 0;
    int64_t line_every = 10;  // steps between plain lines
  };

  Progress(std::shared_ptr<Terminal> terminal, const Options& options, Clock::time_point now = Clock::now());

  /// After each step. Redraws the bar (at most ten times a second), or writes a plain line if one is due.
  void update(int64_t step, double loss, double tokens_per_s, Clock::time_point now = Clock::now());
  /// Time that was no training (validation, a checkpoint) and does not count in the estimate.
  void exclude(Clock::duration time) { start_ += time; }
  /// After the last step, or before the program says why it stops.
  void finish();

  const ProgressState& state() const { return state_; }

 private:
  bool is_due(int64_t step, Clock::time_point now) const;

  std::shared_ptr<Terminal> terminal_;
  Options options_;
  ProgressState state_;
  Clock::time_point start_;
  Clock::time_point drawn_;
};

}  // namespace moeut
