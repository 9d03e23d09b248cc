// Where a text may be cut without changing its ids.
#pragma once

#include <array>
#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>

#include "data/sentencepiece_model.h"

namespace moeut {

/// Cuts texts into words such that ids(text) is the concatenation of ids(word), each encoded by SentencePiece alone.
///
/// Byte-pair encoding joins two neighbours only if together they are a piece. So if characters a and b follow each
/// other in no piece, nothing is ever joined across "ab", and as the order of the joins on one side does not depend on
/// the other side, the sides can be encoded apart. That is used for two kinds of model:
///
/// - *Collapsing*, such as the paper's (add_dummy_prefix, remove_extra_whitespaces): every run of white space becomes
///   one U+2581, which is in a piece only as its first character, and is also what SentencePiece puts before a text
///   that is encoded alone. A word ends at a space, tab or line end that the rules of normalisation make a space, that
///   is inside no rule, and with whose successor no rule begins: then the rules see the same on both sides as in the
///   whole.
/// - *Lossless* (SentencePieceModel::lossless()): nothing is normalised, so a word ends between any two characters that
///   are neighbours in no piece.
///
/// A text that contains U+2581 itself must not be cut.
class WordSplitter {
 public:
  /// Nothing if the above cannot be shown for `model`: another algorithm, pieces that are user-defined or unused, white
  /// space inside pieces.
  static std::optional<WordSplitter> of(const SentencePieceModel& model);

  /// The first word at or after `at`, which moves behind it; empty at the end of the text.
  std::string_view next(std::string_view text, size_t& at) const {
    return lossless_ ? next_of_pairs(text, at) : next_between_spaces(text, at);
  }

 private:
  /// [a][b]: a text may be cut where byte b follows byte a.
  using Cuts = std::array<std::bitset<256>, 256>;

  WordSplitter() = default;
  std::string_view next_between_spaces(std::string_view text, size_t& at) const;
  std::string_view next_of_pairs(std::string_view text, size_t& at) const;

  bool lossless_ = false;
  Cuts cuts_{};                  ///< collapsing: a is dropped there; lossless: between the two
  std::bitset<256> separators_;  ///< collapsing: the bytes with a cut
};

}  // namespace moeut
