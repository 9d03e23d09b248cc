// Results of a check that all ranks make together.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "trainer/ranks.h"

namespace moeut {

class Checks {
 public:
  explicit Checks(Ranks& ranks) : ranks_(ranks) {}
  /// Collective: fine if it is on every rank. Rank 0 prints a line.
  void expect(const std::string& what, bool own) {
    const auto all = ranks_.communicator().all_gather_value<uint8_t>(own ? 1 : 0);
    const auto bad = std::find(all.begin(), all.end(), 0);
    failed_ = failed_ || bad != all.end();
    if (ranks_.leads())
      fmt::print("{} {}{}\n", bad == all.end() ? "ok  " : "FAIL", what,
                 bad == all.end() ? "" : fmt::format(" (rank {})", bad - all.begin()));
  }
  int status() const { return failed_ ? 1 : 0; }

 private:
  Ranks& ranks_;
  bool failed_ = false;
};

}  // namespace moeut
