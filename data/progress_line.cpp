#include "data/progress_line.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace moeut {
namespace {

constexpr std::chrono::milliseconds kOnTerminal{200};
constexpr std::chrono::seconds kInLog{30};

std::string clock_time(double seconds) {
  const auto whole = static_cast<uint64_t>(std::min(seconds, 1e9));
  if (whole < 3600) return fmt::format("{:02}:{:02}", whole / 60, whole % 60);
  return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
}

}  // namespace

std::string describe_progress(double seconds, uint64_t input_before, uint64_t input_done, uint64_t input_total,
                              uint64_t text_before, uint64_t text_bytes) {
  const double text_rate = static_cast<double>(text_bytes - text_before) / std::max(seconds, 1e-3);
  const std::string text =
      fmt::format("{:.1f} MB  {:.2f} MB/s", static_cast<double>(text_bytes) / 1e6, text_rate / 1e6);
  if (input_total == 0) return text;
  const double share = static_cast<double>(input_done) / static_cast<double>(input_total);
  const double input_rate = static_cast<double>(input_done - input_before) / std::max(seconds, 1e-3);
  const double left = static_cast<double>(input_total - std::min(input_done, input_total)) / input_rate;
  return fmt::format("{:3.0f} %  {}  {} left", 100 * share, text, input_rate > 0 ? clock_time(left) : "--:--");
}

ProgressLine::ProgressLine(std::string what, std::FILE* out, std::function<Clock::time_point()> now)
    : what_(std::move(what)), out_(out), now_(std::move(now)), terminal_(isatty(fileno(out)) == 1) {}

ProgressLine::~ProgressLine() {
  if (shown_) fmt::print(out_, "\r\033[K");
}

void ProgressLine::update(uint64_t input_done, uint64_t input_total, uint64_t text_bytes) {
  const auto now = now_();
  if (!std::exchange(started_, true)) {
    start_ = last_ = now;
    first_input_ = input_done;
    first_text_ = text_bytes;
    return;
  }
  if (terminal_ ? now - last_ < kOnTerminal : now - last_ < kInLog) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const std::string line = describe_progress(seconds, first_input_, input_done, input_total, first_text_, text_bytes);
  shown_ = terminal_;
  fmt::print(out_, "{}{} {}{}", terminal_ ? "\r\033[K" : "", what_, line, terminal_ ? "" : "\n");
  std::fflush(out_);
}

}  // namespace moeut
