#include "trainer/watchdog_judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "trainer/text_util.h"

namespace moeut {

WatchdogJudge::WatchdogJudge(std::vector<std::string> names, JudgeOptions options, double now) : options_(options) {
  for (std::string& name : names) ranks_.push_back({.name = std::move(name), .heard_at = now});
}

void WatchdogJudge::heard(int rank, const RankState& state, double now) {
  at(rank).state = state;
  at(rank).heard_at = now;
}

void WatchdogJudge::died(int rank) {
  if (at(rank).presence == Presence::here) at(rank).presence = Presence::dead;
}

void WatchdogJudge::left(int rank) {
  at(rank).presence = Presence::gone;
}

void WatchdogJudge::failed(int rank, const std::string& message, double now) {
  if (at(rank).failure) return;
  at(rank).failure = message;
  at(rank).failed_at = now;
}

bool WatchdogJudge::is_urgent() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const Rank& rank) { return rank.failure.has_value(); });
}

std::optional<Verdict> WatchdogJudge::judge(double now) const {
  if (auto verdict = about_death()) return verdict;
  if (auto verdict = about_failure(now)) return verdict;
  if (auto verdict = about_silence(now)) return verdict;
  if (auto verdict = about_progress()) return verdict;
  return about_waiting();
}

int WatchdogJudge::lowest_other() const {
  for (const int rank : here())
    if (rank > 0) return rank;
  return 0;
}

std::vector<int> WatchdogJudge::here() const {
  std::vector<int> found;
  for (size_t rank = 0; rank < ranks_.size(); ++rank)
    if (ranks_[rank].presence == Presence::here) found.push_back(static_cast<int>(rank));
  return found;
}

/// Ranks of one host die together: all of them are named. One that has said why before it died has not just died.
std::optional<Verdict> WatchdogJudge::about_death() const {
  std::vector<std::string> others;
  const Rank* first = nullptr;
  for (const Rank& rank : ranks_) {
    if (rank.presence != Presence::dead || rank.failure) continue;
    if (first == nullptr)
      first = &rank;
    else
      others.push_back(rank.name);
  }
  if (first == nullptr) return std::nullopt;
  return Verdict{.rank = static_cast<int>(first - ranks_.data()),
                 .message = fmt::format("{} died during {}{}{}", first->name, first->state.where,
                                        others.empty() ? "" : ", and with it ", list_some(others)),
                 .is_gone = true};
}

/// The first one to report, once it is clear that no death is behind it.
std::optional<Verdict> WatchdogJudge::about_failure(double now) const {
  const Rank* first = nullptr;
  for (const Rank& rank : ranks_)
    if (rank.failure && (first == nullptr || rank.failed_at < first->failed_at)) first = &rank;
  if (first == nullptr || now - first->failed_at < options_.grace) return std::nullopt;
  return Verdict{static_cast<int>(first - ranks_.data()), fmt::format("{}: {}", first->name, *first->failure)};
}

std::optional<Verdict> WatchdogJudge::about_silence(double now) const {
  if (options_.silence_seconds <= 0) return std::nullopt;
  for (const int rank : here()) {
    const double silent = now - at(rank).heard_at;
    if (silent <= options_.silence_seconds) continue;
    return Verdict{
        .rank = rank,
        .message = fmt::format("{} has been silent for {:.0f} s, last seen in {}: its process or its host has "
                               "stopped, or the network between them",
                               at(rank).name, silent, at(rank).state.where),
        .is_gone = true};
  }
  return std::nullopt;
}

/// Of those at work, the one that has been longest where it is: others may be slow because of it.
std::optional<Verdict> WatchdogJudge::about_progress() const {
  if (options_.seconds <= 0) return std::nullopt;
  std::optional<int> oldest;
  for (const int rank : here())
    if (!at(rank).state.waiting && (!oldest || at(rank).state.age > at(*oldest).state.age)) oldest = rank;
  if (!oldest || at(*oldest).state.age <= options_.seconds) return std::nullopt;
  const Rank& rank = at(*oldest);
  return Verdict{*oldest, fmt::format("{} has made no progress for {:.0f} s in {} (train.watchdog_seconds = {})",
                                      rank.name, rank.state.age, rank.state.where, options_.seconds)};
}

/// The time in which all waited is what their waits have in common: what they last told is not of one moment.
std::optional<Verdict> WatchdogJudge::about_waiting() const {
  const std::vector<int> all = here();
  if (options_.seconds <= 0 || all.size() < 2) return std::nullopt;
  double begin = -INFINITY, end = INFINITY;
  std::vector<std::string> places;
  for (const int rank : all) {
    const Rank& r = at(rank);
    if (!r.state.waiting) return std::nullopt;
    begin = std::max(begin, r.heard_at - r.state.age);
    end = std::min(end, r.heard_at);
    places.push_back(fmt::format("{} in {}", r.name, r.state.where));
  }
  if (end - begin <= options_.seconds) return std::nullopt;
  return Verdict{-1,
                 fmt::format("all {} ranks have waited for each other for {:.0f} s (train.watchdog_seconds = {}): {}",
                             all.size(), end - begin, options_.seconds, list_some(places))};
}

}  // namespace moeut
