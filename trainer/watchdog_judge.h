// Who is to blame, and whether it is time to say so: the watchdog's decisions, without clocks, threads or connections.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moeut {

/// What a rank tells about itself.
struct RankState {
  std::string where = "the start";  ///< "forward of step 37"
  bool waiting = false;             ///< for other ranks
  double age = 0;                   ///< seconds since its last mark
};

/// Why the run ends.
struct Verdict {
  int rank = 0;  ///< whom it is about; -1: all
  std::string message{};
  bool is_gone = false;  ///< it is dead or silent: what other ranks then complain about comes of that
};

struct JudgeOptions {
  double seconds = 600;         ///< without progress; 0: no limit
  double silence_seconds = 20;  ///< without a word; 0: no limit
  /// How long an error that a rank reports waits for the news of another rank's death, which may be its cause.
  double grace = 0.3;
};

/// Every `now` is in seconds, from one clock that never goes back.
class WatchdogJudge {
 public:
  /// `names`: how messages call the ranks: "rank 2 (gpu7:4711)". At first all have just been heard of.
  WatchdogJudge(std::vector<std::string> names, JudgeOptions options, double now);

  void heard(int rank, const RankState& state, double now);
  /// Its connection has closed.
  void died(int rank);
  /// It has said goodbye, or is none of this judge's business.
  void left(int rank);
  void failed(int rank, const std::string& message, double now);

  /// A failure waits for its grace: look again soon.
  bool is_urgent() const;
  std::optional<Verdict> judge(double now) const;
  /// The lowest rank above 0 that is here; 0 if there is none.
  int lowest_other() const;

 private:
  enum class Presence : uint8_t { here, dead, gone };
  struct Rank {
    std::string name;
    RankState state{};
    double heard_at = 0;
    Presence presence = Presence::here;
    std::optional<std::string> failure{};
    double failed_at = 0;
  };

  std::optional<Verdict> about_death() const;
  std::optional<Verdict> about_failure(double now) const;
  std::optional<Verdict> about_silence(double now) const;
  std::optional<Verdict> about_progress() const;
  std::optional<Verdict> about_waiting() const;
  std::vector<int> here() const;
  const Rank& at(int rank) const { return ranks_[static_cast<size_t>(rank)]; }
  Rank& at(int rank) { return ranks_[static_cast<size_t>(rank)]; }

  std::vector<Rank> ranks_;
  JudgeOptions options_;
};

}  // namespace moeut
