#include "data/normalization_rules.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "data/utf8.h"

namespace moeut {
namespace {

constexpr uint32_t kRoot = 0;
constexpr size_t kMaxDepth = 1024;  // bytes of a rule; those of NFKC have at most a few dozen
constexpr int kMaxMatches = 32;     // at one position: the size of an array on SentencePiece's stack

constexpr uint32_t label(uint32_t unit) {
  return unit & 0x800000FFu;
}
constexpr bool ends_rule(uint32_t unit) {
  return (unit >> 8 & 1) != 0;
}
constexpr uint32_t offset(uint32_t unit) {
  return (unit >> 10) << ((unit & 0x200u) >> 6);
}

}  // namespace

NormalizationRules::NormalizationRules(std::string_view charsmap) {
  uint32_t trie_bytes = 0;
  require<IoError>(charsmap.size() > sizeof trie_bytes, "its rules of normalisation are cut off");
  std::memcpy(&trie_bytes, charsmap.data(), sizeof trie_bytes);
  charsmap.remove_prefix(sizeof trie_bytes);
  require<IoError>(trie_bytes >= 4 && trie_bytes < charsmap.size() && charsmap.back() == '\0',
                   "its rules of normalisation are cut off");
  units_.resize(trie_bytes / 4);
  std::memcpy(units_.data(), charsmap.data(), units_.size() * 4);
  replacements_ = charsmap.substr(trie_bytes);
  walk();
}

std::optional<std::string_view> NormalizationRules::of_byte(uint8_t byte) const {
  const auto node = child(kRoot, byte);
  return node ? replacement(*node) : std::nullopt;
}

bool NormalizationRules::begins(uint8_t first, uint8_t second) const {
  const auto node = child(kRoot, first);
  return node && child(*node, second);
}

uint32_t NormalizationRules::base(uint32_t node) const {
  return node ^ offset(units_[node]);
}

std::optional<uint32_t> NormalizationRules::child(uint32_t node, uint8_t byte) const {
  const uint32_t next = base(node) ^ byte;
  return label(units_[next]) == byte ? std::optional(next) : std::nullopt;
}

std::optional<std::string_view> NormalizationRules::replacement(uint32_t node) const {
  if (!ends_rule(units_[node])) return std::nullopt;
  const uint32_t position = units_[base(node)] & 0x7FFFFFFFu;
  return std::string_view(replacements_.data() + position);  // check_node(): a zero byte follows
}

/// All 256 possible children and the leaf exist, and so does the replacement.
void NormalizationRules::check_node(uint32_t node) const {
  require<IoError>((base(node) | 0xFFu) < units_.size(), "its rules of normalisation lead outside their table");
  require<IoError>(!ends_rule(units_[node]) || (units_[base(node)] & 0x7FFFFFFFu) < replacements_.size(),
                   "a rule of normalisation has no replacement");
}

/// Visits every unit that a text can reach, once: units with the same continuations are shared, so their graph has no
/// cycle but is no tree.
void NormalizationRules::walk() {
  struct Visit {
    uint32_t node;
    int byte;     // the next child to look at
    int matches;  // rules that end below, on the richest path
  };
  constexpr uint8_t kNew = 255, kOpen = 254;
  std::vector<uint8_t> matches_from(units_.size(), kNew);
  std::vector<Visit> path;
  const auto open = [&](uint32_t node) {
    check_node(node);
    require<IoError>(path.size() < kMaxDepth, "a rule of normalisation is longer than {} bytes", kMaxDepth);
    matches_from[node] = kOpen;
    path.push_back({node, 0, 0});
  };
  for (open(kRoot); !path.empty();) {
    Visit& visit = path.back();
    if (visit.byte == 256) {
      const auto text = replacement(visit.node);
      if (text)
        plain_replacements_ &= first_invalid_utf8(*text) == text->size() && text->find(kSpaceSymbol) == text->npos;
      const int matches = visit.matches + (text && visit.node != kRoot ? 1 : 0);
      require<IoError>(matches <= kMaxMatches, "more than {} rules of normalisation match at once", kMaxMatches);
      matches_from[visit.node] = static_cast<uint8_t>(matches);
      path.pop_back();
      if (!path.empty()) path.back().matches = std::max(path.back().matches, matches);
      continue;
    }
    const auto byte = static_cast<uint8_t>(visit.byte++);
    const auto next = child(visit.node, byte);
    if (!next) continue;
    if (visit.node != kRoot) inside_.set(byte);
    require<IoError>(matches_from[*next] != kOpen, "its rules of normalisation run in a circle");
    if (matches_from[*next] == kNew)
      open(*next);
    else
      visit.matches = std::max<int>(visit.matches, matches_from[*next]);
  }
}

}  // namespace moeut
