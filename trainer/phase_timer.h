// Where the time of a step goes.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>

namespace moeut {

/// `graph` is forward, backward and optimizer in one, where they run as a CUDA graph.
enum class Phase : uint8_t { data, forward, backward, optimizer, graph, other };
inline constexpr size_t kPhases = 6;

/// Adds up wall time by phase. At every moment one phase runs, `other` at first.
class PhaseTimer {
 public:
  using Clock = std::chrono::steady_clock;

  void enter(Phase next) {
    const Clock::time_point now = Clock::now();
    spent_[static_cast<size_t>(current_)] += now - since_;
    since_ = now;
    current_ = next;
  }
  /// Of whole visits: a phase that still runs counts when the next one begins.
  double seconds(Phase phase) const {
    return std::chrono::duration<double>(spent_[static_cast<size_t>(phase)]).count();
  }

 private:
  std::array<Clock::duration, kPhases> spent_{};
  Clock::time_point since_ = Clock::now();
  Phase current_ = Phase::other;
};

}  // namespace moeut
