// The compiled rules of normalisation in a SentencePiece model (its "precompiled charsmap").
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace moeut {

/// U+2581, which stands for a space in pieces.
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

/// Rules "these bytes become those", of which SentencePiece applies the longest that matches at a position, and copies
/// one character where none does. In the file: the size of a trie in bytes (uint32), the trie as a double array of
/// uint32 units, then the replacements, each ending with a zero byte.  [normalizer.cc, darts.h of SentencePiece]
///
/// A unit: bits 0-7 and 31 the label (bit 31 set: a leaf, its other bits the replacement's position), bit 8 "a rule
/// ends here", bits 10-30 the offset to the children, times 256 if bit 9 is set. The child of unit n for byte c is unit
/// (n ^ offset(n) ^ c) if its label is c.
class NormalizationRules {
 public:
  /// Throws IoError unless a walk over any text stays inside the trie and the replacements and matches at most as many
  /// rules at a position as SentencePiece has room for. Keeps a view into `charsmap`.
  explicit NormalizationRules(std::string_view charsmap);

  /// The replacement of `byte` where nothing longer matches; nothing if no rule consists of that byte alone.
  std::optional<std::string_view> of_byte(uint8_t byte) const;
  /// True if a rule begins with these two bytes.
  bool begins(uint8_t first, uint8_t second) const;
  /// True if a rule contains `byte` behind its first one.
  bool contains_inside(uint8_t byte) const { return inside_[byte]; }
  /// True if every replacement is valid UTF-8 without U+2581.
  bool plain_replacements() const { return plain_replacements_; }

 private:
  uint32_t base(uint32_t node) const;
  std::optional<uint32_t> child(uint32_t node, uint8_t byte) const;
  std::optional<std::string_view> replacement(uint32_t node) const;
  void check_node(uint32_t node) const;
  void walk();

  std::vector<uint32_t> units_;
  std::string_view replacements_;
  std::bitset<256> inside_;
  bool plain_replacements_ = true;
};

}  // namespace moeut
