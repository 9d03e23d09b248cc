#include "trainer/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

namespace moeut {
namespace {

constexpr auto kRedrawEvery = std::chrono::milliseconds(100);
constexpr std::string_view kClearLine = "\r\x1b[K";

bool is_capable_terminal(std::FILE* stream) {
  if (::isatty(::fileno(stream)) != 1) return false;
  const char* term = std::getenv("TERM");
  return term == nullptr || std::string_view(term) != "dumb";
}

void put(std::FILE* stream, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stream);
}

}  // namespace

Terminal::Terminal(std::FILE* stream) : Terminal(stream, is_capable_terminal(stream)) {}

Terminal::~Terminal() {
  finish_bar();
}

int Terminal::width() const {
  struct winsize size = {};
  const bool known = ::ioctl(::fileno(stream_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

void Terminal::print(std::string_view lines) {
  const std::scoped_lock lock(mutex_);
  if (!bar_.empty()) put(stream_, kClearLine);
  put(stream_, lines);
  put(stream_, bar_);
  std::fflush(stream_);
}

void Terminal::draw_bar(std::string_view bar) {
  const std::scoped_lock lock(mutex_);
  if (!draws_bars_) return;
  put(stream_, kClearLine);
  bar_ = bar;
  put(stream_, bar_);
  std::fflush(stream_);
}

void Terminal::finish_bar() {
  const std::scoped_lock lock(mutex_);
  if (bar_.empty()) return;
  bar_.clear();
  put(stream_, "\n");
  std::fflush(stream_);
}

std::string duration_text(double seconds) {
  constexpr double kLongest = 1e10;  // 300 years; beyond it nobody counts
  if (!(seconds >= 0)) return "--";
  const auto total = static_cast<int64_t>(std::min(seconds, kLongest) + 0.5);
  const int64_t days = total / 86400, hours = total / 3600 % 24, minutes = total / 60 % 60;
  if (days > 0) return fmt::format("{}d {:02}:{:02}", days, hours, minutes);
  if (hours > 0) return fmt::format("{}:{:02}:{:02}", hours, minutes, total % 60);
  if (minutes > 0) return fmt::format("{}:{:02}", minutes, total % 60);
  return fmt::format("{}s", total);
}

std::string short_number(double value) {
  constexpr std::array units{"", "k", "M", "G", "T"};
  size_t unit = 0;
  // 999.5 and more would be printed as 1000: that is the next unit's 1.00.
  while (std::abs(value) >= 999.5 && unit + 1 < units.size()) {
    value /= 1000;
    ++unit;
  }
  const int digits = unit == 0 || std::abs(value) >= 99.95 ? 0 : std::abs(value) >= 9.995 ? 1 : 2;
  return fmt::format("{:.{}f}{}", value, digits, units[unit]);
}

std::string progress_line(const ProgressState& state) {
  return fmt::format("step {}/{}  loss {:.4f}  {} tokens/s  ETA {}", state.step, state.steps, state.loss,
                     short_number(state.tokens_per_s), duration_text(state.eta_s));
}

std::string progress_bar(const ProgressState& state, int width) {
  constexpr int kWidestBar = 40, kNarrowestBar = 6;
  const std::string text = progress_line(state);
  const int room =
      width - 1 - static_cast<int>(text.size()) - 3;  // the last column stays free: some terminals wrap at it
  if (room < kNarrowestBar) return text.substr(0, static_cast<size_t>(std::max(width - 1, 0)));
  const int cells = std::min(room, kWidestBar);
  const double share = state.steps > 0 ? static_cast<double>(state.step) / static_cast<double>(state.steps) : 0;
  const int full = std::clamp(static_cast<int>(share * cells), 0, cells);
  return fmt::format("[{:#<{}}{:-<{}}] {}", "", full, "", cells - full, text);
}

Progress::Progress(std::shared_ptr<Terminal> terminal, const Options& options, Clock::time_point now)
    : terminal_(std::move(terminal)), options_(options), start_(now), drawn_(now - kRedrawEvery) {
  state_.step = options.first_step;
  state_.steps = options.steps;
}

void Progress::update(int64_t step, double loss, double tokens_per_s, Clock::time_point now) {
  state_.step = step;
  state_.loss = loss;
  state_.tokens_per_s = tokens_per_s;
  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const auto done = static_cast<double>(step - options_.first_step);
  if (done > 0) state_.eta_s = elapsed / done * static_cast<double>(options_.steps - step);
  if (!is_due(step, now)) return;
  drawn_ = now;
  if (terminal_->draws_bars()) {
    terminal_->draw_bar(progress_bar(state_, terminal_->width()));
  } else {
    terminal_->print(progress_line(state_) + "\n");
  }
}

bool Progress::is_due(int64_t step, Clock::time_point now) const {
  if (step >= options_.steps) return true;
  if (terminal_->draws_bars()) return now - drawn_ >= kRedrawEvery;
  return step % options_.line_every == 0 || step == options_.first_step + 1;
}

void Progress::finish() {
  terminal_->finish_bar();
}

}  // namespace moeut
