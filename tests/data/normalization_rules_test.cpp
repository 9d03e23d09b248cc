#include "data/normalization_rules.h"

#include <doctest/doctest.h>

#include <cstring>
#include <string>

#include "core/error.h"

namespace moeut {
namespace {

using namespace std::string_literals;

/// A charsmap written by hand. Every node has a block of 256 units for its children; byte c leads to unit block + c,
/// and a rule's leaf is the block's unit 0.
class HandMade {
 public:
  explicit HandMade(int blocks) : units_(static_cast<size_t>(blocks) * 256) {
    for (size_t i = 0; i < units_.size(); ++i) units_[i] = static_cast<uint32_t>(i + 1) & 0xFF;  // no one's label
    point(0, 1);
  }
  /// Node `unit` has its children in `block`.
  void point(uint32_t unit, uint32_t block) {
    const uint32_t offset = unit ^ (block * 256);
    units_[unit] = (units_[unit] & 0x1FF) | offset << 10;
  }
  /// The child of the node with children in `block`: its unit.
  uint32_t child(uint32_t block, uint8_t byte, uint32_t children) {
    const uint32_t unit = block * 256 + byte;
    units_[unit] = byte;
    point(unit, children);
    return unit;
  }
  void end_rule(uint32_t unit, uint32_t children, uint32_t position) {
    units_[unit] |= 0x100;
    units_[children * 256] = 0x80000000u | position;
  }
  std::string charsmap(const std::string& replacements) const {
    const auto bytes = static_cast<uint32_t>(units_.size() * 4);
    std::string blob(sizeof bytes + bytes, '\0');
    std::memcpy(blob.data(), &bytes, sizeof bytes);
    std::memcpy(blob.data() + sizeof bytes, units_.data(), bytes);
    return blob + replacements;
  }

 private:
  std::vector<uint32_t> units_;
};

/// "\t" -> " ", "ab" -> "c".
HandMade two_rules() {
  HandMade made(5);
  made.end_rule(made.child(1, '\t', 2), 2, 0);
  made.child(1, 'a', 3);
  made.end_rule(made.child(3, 'b', 4), 4, 2);
  return made;
}

TEST_CASE("rules are read") {
  const std::string charsmap = two_rules().charsmap(" \0c\0"s);
  const NormalizationRules rules(charsmap);
  CHECK(rules.of_byte('\t') == " ");
  CHECK_FALSE(rules.of_byte('a'));
  CHECK_FALSE(rules.of_byte('b'));
  CHECK(rules.begins('a', 'b'));
  CHECK_FALSE(rules.begins('a', 'c'));
  CHECK_FALSE(rules.begins('\t', 'b'));
  CHECK(rules.contains_inside('b'));
  CHECK_FALSE(rules.contains_inside('a'));
  CHECK(rules.plain_replacements());
  const std::string space_symbol = two_rules().charsmap(" \0\u2581\0"s), not_utf8 = two_rules().charsmap(" \0\xFF\0"s);
  CHECK_FALSE(NormalizationRules(space_symbol).plain_replacements());
  CHECK_FALSE(NormalizationRules(not_utf8).plain_replacements());
}

TEST_CASE("rules that would lead SentencePiece out of their table are refused") {
  const auto refused = [](const std::string& charsmap, const char* why) {
    CHECK_THROWS_WITH_AS(NormalizationRules{charsmap}, doctest::Contains(why), IoError);
  };
  const std::string whole = two_rules().charsmap(" \0c\0"s);
  for (const size_t size : {0, 3, 4, 100, 5 * 1024 + 4}) refused(whole.substr(0, size), "cut off");
  refused(two_rules().charsmap(" \0c"s), "cut off");
  refused(two_rules().charsmap(" \0"s), "no replacement");
  HandMade outside = two_rules();
  outside.child(3, 'c', 5);
  refused(outside.charsmap(" \0c\0"s), "outside");
  HandMade circle = two_rules();
  circle.child(4, 'c', 3);
  refused(circle.charsmap(" \0c\0"s), "circle");
  HandMade many(35);  // "a", "aa", "aaa", ...: 33 rules match at the first letter
  for (uint32_t block = 1; block <= 33; ++block) many.end_rule(many.child(block, 'a', block + 1), block + 1, 0);
  refused(many.charsmap(" \0"s), "more than 32");
}

}  // namespace
}  // namespace moeut
