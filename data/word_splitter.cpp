#include "data/word_splitter.h"

#include <algorithm>

namespace moeut {
namespace {

using Piece = SentencePieceModel::Piece;
using PieceType = SentencePieceModel::PieceType;

/// Which characters follow each other in a piece: every one of ASCII for itself, all others as one. U+2581 counts as
/// the space that it stands for.
class Neighbours {
 public:
  explicit Neighbours(const std::vector<Piece>& pieces) {
    for (const Piece& piece : pieces) note(piece.text);
  }
  bool any(int a, int b) const { return follows_[class_of(a)][class_of(b)]; }
  /// True if a piece holds a space behind another character.
  bool space_behind_another() const {
    for (int a = 0; a < kClasses; ++a)
      if (a != ' ' && follows_[a][' ']) return true;
    return false;
  }

 private:
  static constexpr int kClasses = 129;
  static int class_of(int byte) { return std::min(byte, kClasses - 1); }

  void note(std::string_view piece) {
    for (int before = -1; !piece.empty();) {
      const bool is_space = piece.starts_with(kSpaceSymbol);
      const int here = is_space ? ' ' : class_of(static_cast<uint8_t>(piece[0]));
      if (before >= 0) follows_[before][here] = true;
      before = here;
      piece.remove_prefix(is_space ? kSpaceSymbol.size() : 1);
    }
  }
  std::array<std::array<bool, kClasses>, kClasses> follows_{};
};

bool has_type(const SentencePieceModel& model, PieceType type) {
  return std::any_of(model.pieces.begin(), model.pieces.end(), [&](const Piece& piece) { return piece.type == type; });
}

/// SentencePiece makes one id of neighbours that it does not know; a word that begins with a known piece ends such a
/// run.
bool knows_space(const SentencePieceModel& model) {
  const auto is_space = [](const Piece& piece) { return piece.text == kSpaceSymbol; };
  return std::count_if(model.pieces.begin(), model.pieces.end(), is_space) == 1 &&
         std::find_if(model.pieces.begin(), model.pieces.end(), is_space)->type == PieceType::kNormal;
}

bool collapses(const SentencePieceModel& model) {
  return model.add_dummy_prefix && model.remove_extra_whitespaces && model.escape_whitespaces &&
         !model.treat_whitespace_as_suffix && knows_space(model);
}

/// True if `byte` becomes one space whatever stands around it, a rule that begins with it aside.
bool becomes_space(const std::optional<NormalizationRules>& rules, uint8_t byte) {
  if (!rules) return byte == ' ';
  const auto replacement = rules->of_byte(byte);
  return !rules->contains_inside(byte) && (replacement ? *replacement == " " : byte == ' ');
}

}  // namespace

std::optional<WordSplitter> WordSplitter::of(const SentencePieceModel& model) {
  const bool lossless = model.lossless();
  if (model.algorithm != SentencePieceModel::Algorithm::kBpe || has_type(model, PieceType::kUserDefined) ||
      has_type(model, PieceType::kUnused) || (!lossless && !collapses(model)))
    return std::nullopt;
  WordSplitter splitter;
  splitter.lossless_ = lossless;
  const Neighbours neighbours(model.pieces);
  if (lossless) {
    for (int a = 0; a < 256; ++a)
      for (int b = 0; b < 256; ++b)  // 0x80 … 0xBF never begin a character
        splitter.cuts_[a][b] = (b < 0x80 || b >= 0xC0) && !neighbours.any(a, b);
    return splitter;
  }
  const std::optional<NormalizationRules>& rules = model.rules;
  if (neighbours.space_behind_another() || (rules && !rules->plain_replacements())) return std::nullopt;
  for (const uint8_t byte : {' ', '\t', '\n', '\r'}) {
    if (!becomes_space(rules, byte)) continue;
    splitter.separators_.set(byte);
    for (int next = 0; next < 256; ++next)
      splitter.cuts_[byte][next] = !rules || !rules->begins(byte, static_cast<uint8_t>(next));
  }
  return splitter;
}

std::string_view WordSplitter::next_between_spaces(std::string_view text, size_t& at) const {
  const auto separates = [&](size_t i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    return separators_[byte] && (i + 1 == text.size() || cuts_[byte][static_cast<uint8_t>(text[i + 1])]);
  };
  while (at < text.size() && separates(at)) ++at;
  const size_t begin = at;
  while (at < text.size() && !separates(at)) ++at;
  return text.substr(begin, at - begin);
}

std::string_view WordSplitter::next_of_pairs(std::string_view text, size_t& at) const {
  const size_t begin = at;
  if (at < text.size()) ++at;
  while (at < text.size() && !cuts_[static_cast<uint8_t>(text[at - 1])][static_cast<uint8_t>(text[at])]) ++at;
  return text.substr(begin, at - begin);
}

}  // namespace moeut
