// What a SentencePiece model file says, read without SentencePiece: to refuse a damaged file before the library sees
// it, and to know what may be relied on when its texts are encoded.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

#include "data/normalization_rules.h"

namespace moeut {

/// The fields of sentencepiece_model.proto that decide about ids, with its defaults. Texts are views into the file's
/// bytes.
struct SentencePieceModel {
  enum class PieceType : uint8_t { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  enum class Algorithm : uint8_t { kUnigram = 1, kBpe, kWord, kChar };
  struct Piece {
    std::string_view text;
    PieceType type = PieceType::kNormal;
  };

  std::vector<Piece> pieces;
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false, treat_whitespace_as_suffix = false;
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
  std::optional<NormalizationRules> rules;               ///< nothing: texts stay as they are
  std::optional<NormalizationRules> denormalizer_rules;  ///< the same for decoded text

  /// Throws IoError naming `path` unless the file is well formed, with pieces that are valid UTF-8 of sane length and
  /// number and finite scores (a piece of hundreds of kilobytes overflows SentencePiece's stack), and with rules that
  /// SentencePiece can follow for any text without leaving them (normalization_rules.h).
  static SentencePieceModel parse(std::string_view bytes, const std::filesystem::path& path);

  /// True if any valid UTF-8 text comes back from its ids, U+2581 aside: nothing is normalised, added or removed, what
  /// no piece covers becomes byte pieces, and no text can be taken for a control, unknown or byte piece.
  bool lossless() const;
};

}  // namespace moeut
