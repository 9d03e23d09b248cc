#include "trainer/test_fault.h"

#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "core/check.h"

namespace moeut {
namespace {

template <class T>
bool parse_number(std::string_view text, T& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number >= 0;
}

}  // namespace

std::optional<TestFault> TestFault::from_environment(int rank) {
  const char* text = std::getenv("MOEUT_TEST_FAULT");
  if (text == nullptr) return std::nullopt;
  const TestFault fault = parse(text);
  return fault.rank_ == rank ? std::optional(fault) : std::nullopt;
}

TestFault TestFault::parse(const std::string& text) {
  const size_t at = text.find('@'), first = text.find(':', at), last = text.rfind(':');
  TestFault fault;
  bool right = at != std::string::npos && first != std::string::npos && first < last;
  if (right) {
    const std::string action = text.substr(0, at);
    fault.action_ = action == "stop" ? Action::stop : action == "hang" ? Action::hang : Action::kill;
    fault.phase_ = text.substr(first + 1, last - first - 1);
    right = (action == "kill" || fault.action_ != Action::kill) && !fault.phase_.empty() &&
            parse_number(std::string_view(text).substr(at + 1, first - at - 1), fault.rank_) &&
            parse_number(std::string_view(text).substr(last + 1), fault.step_);
  }
  require<ConfigError>(right,
                       "MOEUT_TEST_FAULT = '{}' is not ACTION@RANK:PHASE:STEP with ACTION kill, stop or hang, such as "
                       "kill@1:forward:3; unset it unless you test what a fault does",
                       text);
  return fault;
}

void TestFault::at(const char* phase, int64_t step) const {
  if (step != step_ || phase_ != phase) return;
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // five looks of the watchdog
  if (action_ == Action::kill) ::raise(SIGKILL);
  if (action_ == Action::stop) ::raise(SIGSTOP);  // stops all threads
  while (action_ == Action::hang) ::pause();
}

}  // namespace moeut
