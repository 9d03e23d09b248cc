// A sample of a corpus that does not fit into memory.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moeut {

/// Keeps at most `max_bytes` of the texts it is given. Text number i (from 0) has the priority XXH3-64 of (seed, i),
/// two little-endian uint64; kept are the texts of the lowest priorities, up to the first that would pass `max_bytes`.
/// So every text is as likely to be kept, and the sample is a function of seed, texts and their order alone. One text
/// more than the sample is in memory at most.
class TextSample {
 public:
  /// max_bytes 0: everything is kept.
  TextSample(uint64_t max_bytes, uint64_t seed) : max_bytes_(max_bytes), seed_(seed) {}

  void add(std::string text);

  uint64_t texts_seen() const { return texts_seen_; }
  uint64_t bytes_seen() const { return bytes_seen_; }
  uint64_t texts() const { return kept_.size(); }
  uint64_t bytes() const { return bytes_; }

  /// The next text of the sample, in the order they were added; nothing after the last one. Add no more after that.
  std::optional<std::string> next();

 private:
  struct Text {
    uint64_t priority, index;
    std::string text;
  };
  static bool lower_priority(const Text& a, const Text& b) { return a.priority < b.priority; }
  void leave_out_last();

  uint64_t max_bytes_, seed_;
  uint64_t texts_seen_ = 0, bytes_seen_ = 0, bytes_ = 0;
  std::optional<uint64_t> cutoff_;  ///< the lowest priority that was left out
  std::vector<Text> kept_;          ///< a heap, the highest priority first; in order of index once next() was called
  std::optional<size_t> next_;
};

}  // namespace moeut
