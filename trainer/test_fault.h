// A fault on purpose, so that tests can see what a run makes of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace moeut {

/// MOEUT_TEST_FAULT=ACTION@RANK:PHASE:STEP: when rank RANK enters PHASE of STEP it is killed (ACTION kill), stopped
/// (stop: it goes on by SIGCONT) or sleeps for ever (hang). Before that it waits until the others have heard where it
/// is.
class TestFault {
 public:
  /// Nothing unless the environment asks for a fault of this rank. Throws ConfigError if it asks for what is no fault.
  static std::optional<TestFault> from_environment(int rank);
  static TestFault parse(const std::string& text);

  int rank() const { return rank_; }
  /// Acts if this is the place.
  void at(const char* phase, int64_t step) const;

 private:
  enum class Action : uint8_t { kill, stop, hang };

  Action action_ = Action::kill;
  int rank_ = 0;
  std::string phase_;
  int64_t step_ = 0;
};

}  // namespace moeut
