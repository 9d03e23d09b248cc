#include "data/word_cache.h"

#include <algorithm>
#include <cstring>

#include "data/hash.h"

namespace moeut {

WordCache::WordCache() : slots_(kSets * kWays) {}

size_t WordCache::first_slot(std::string_view word) {
  return xxh3_64(word.data(), word.size()) % kSets * kWays;
}

bool WordCache::append(std::string_view word, std::vector<int32_t>& ids) const {
  if (word.empty() || word.size() > kMaxBytes) return false;
  const Slot* slot = &slots_[first_slot(word)];
  for (size_t way = 0; way < kWays; ++way, ++slot) {
    if (slot->bytes != word.size() || std::memcmp(slot->word, word.data(), word.size()) != 0) continue;
    ids.insert(ids.end(), slot->ids, slot->ids + slot->count);
    return true;
  }
  return false;
}

void WordCache::put(std::string_view word, std::span<const int32_t> ids) {
  if (word.empty() || word.size() > kMaxBytes || ids.size() > kMaxIds) return;
  Slot* const set = &slots_[first_slot(word)];
  Slot* slot = std::find_if(set, set + kWays, [](const Slot& s) { return s.bytes == 0; });
  if (slot == set + kWays) slot = set + next_victim_++ % kWays;
  slot->bytes = static_cast<uint8_t>(word.size());
  slot->count = static_cast<uint8_t>(ids.size());
  std::copy(word.begin(), word.end(), slot->word);
  std::copy(ids.begin(), ids.end(), slot->ids);
}

}  // namespace moeut
