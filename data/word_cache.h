// The ids of words seen before.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace moeut {

/// A map from words to their ids of fixed size: 8 MiB, a cache line of 64 bytes a word, four places where a word may
/// be. A new word takes the place of another one if they are taken, so the map is right but may have forgotten. For one
/// thread.
class WordCache {
 public:
  WordCache();

  /// Appends the ids of `word` to `ids`; false, and nothing appended, if it is not there.
  bool append(std::string_view word, std::vector<int32_t>& ids) const;
  /// Remembers the ids of a word that is not there. Words over 30 bytes or 8 ids, and empty ones, have no place.
  void put(std::string_view word, std::span<const int32_t> ids);

 private:
  static constexpr size_t kMaxBytes = 30, kMaxIds = 8;
  static constexpr size_t kSets = size_t{1} << 15, kWays = 4;

  struct alignas(64) Slot {
    uint8_t bytes = 0;  ///< of the word; 0: free
    uint8_t count = 0;
    char word[kMaxBytes];
    int32_t ids[kMaxIds];
  };
  static_assert(sizeof(Slot) == 64);

  static size_t first_slot(std::string_view word);

  std::vector<Slot> slots_;
  size_t next_victim_ = 0;
};

}  // namespace moeut
