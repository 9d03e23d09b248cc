#include "data/sentencepiece_model.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <unordered_map>

#include "core/check.h"
#include "data/protobuf_fields.h"
#include "data/utf8.h"

namespace moeut {
namespace {

constexpr size_t kMaxPieceBytes = 4096;
constexpr size_t kMaxPieces = size_t{1} << 22;

/// Reads one piece; what is wrong with it, or nothing.
const char* read_piece(std::string_view message, SentencePieceModel::Piece& piece) {
  ProtobufFields fields(message);
  uint64_t type = 1;
  float score = 0;
  while (const auto field = fields.next()) {
    if (field->is(1, ProtobufField::kBytes)) piece.text = field->bytes;
    if (field->is(2, ProtobufField::kFixed32)) std::memcpy(&score, &field->value, sizeof score);
    if (field->is(3, ProtobufField::kVarint)) type = field->value;
  }
  piece.type = static_cast<SentencePieceModel::PieceType>(type);
  if (!fields.ok()) return "is not well formed";
  if (piece.text.empty()) return "is empty";
  if (piece.text.size() > kMaxPieceBytes) return "is longer than 4096 bytes";
  if (piece.text.find('\0') != std::string_view::npos) return "holds a zero byte";
  if (first_invalid_utf8(piece.text) < piece.text.size()) return "is not valid UTF-8";
  if (!std::isfinite(score)) return "has a score that is not finite";
  if (type < 1 || type > static_cast<uint64_t>(SentencePieceModel::PieceType::kByte)) return "has an unknown type";
  return nullptr;
}

void read_rules(std::string_view charsmap, std::optional<NormalizationRules>& rules) {
  rules.reset();  // the last one counts
  if (!charsmap.empty()) rules.emplace(charsmap);
}

bool read_trainer_spec(std::string_view message, SentencePieceModel& model) {
  ProtobufFields fields(message);
  while (const auto field = fields.next()) {
    if (field->is(3, ProtobufField::kVarint) && field->value >= 1 && field->value <= 4)
      model.algorithm = static_cast<SentencePieceModel::Algorithm>(field->value);
    if (field->is(24, ProtobufField::kVarint)) model.treat_whitespace_as_suffix = field->value != 0;
    if (field->is(35, ProtobufField::kVarint)) model.byte_fallback = field->value != 0;
  }
  return fields.ok();
}

/// Throws IoError for unusable rules.
bool read_normalizer_spec(std::string_view message, SentencePieceModel& model) {
  ProtobufFields fields(message);
  while (const auto field = fields.next()) {
    if (field->is(2, ProtobufField::kBytes)) read_rules(field->bytes, model.rules);
    if (field->is(3, ProtobufField::kVarint)) model.add_dummy_prefix = field->value != 0;
    if (field->is(4, ProtobufField::kVarint)) model.remove_extra_whitespaces = field->value != 0;
    if (field->is(5, ProtobufField::kVarint)) model.escape_whitespaces = field->value != 0;
  }
  return fields.ok();
}

bool read_denormalizer_spec(std::string_view message, SentencePieceModel& model) {
  ProtobufFields fields(message);
  while (const auto field = fields.next())
    if (field->is(2, ProtobufField::kBytes)) read_rules(field->bytes, model.denormalizer_rules);
  return fields.ok();
}

/// Reads field 2, 3 or 5 of the model; false if it is not well formed.
bool read_spec(const ProtobufField& field, SentencePieceModel& model, const std::filesystem::path& path) {
  try {
    if (field.number == 2) return read_trainer_spec(field.bytes, model);
    if (field.number == 3) return read_normalizer_spec(field.bytes, model);
    return field.number != 5 || read_denormalizer_spec(field.bytes, model);
  } catch (const IoError& error) {
    throw IoError(fmt::format("'{}' is not a usable SentencePiece model: {}; train it again or restore it",
                              path.string(), error.what()));
  }
}

bool is_one_character(std::string_view text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }) == 1;
}

}  // namespace

SentencePieceModel SentencePieceModel::parse(std::string_view bytes, const std::filesystem::path& path) {
  SentencePieceModel model;
  ProtobufFields fields(bytes);
  bool specs_ok = true;
  bool has_trainer_spec = false, has_normalizer = false;  // both follow the pieces: a file cut there has none
  while (const auto field = fields.next()) {
    if (field->number == 1) {
      const size_t index = model.pieces.size();
      const char* defect = index == kMaxPieces ? "is one too many"
                           : field->wire_type != ProtobufField::kBytes
                               ? "is not a message"
                               : read_piece(field->bytes, model.pieces.emplace_back());
      require<IoError>(defect == nullptr,
                       "'{}' is not a usable SentencePiece model: piece {} {}; train it again or restore it",
                       path.string(), index, defect == nullptr ? "" : defect);
    }
    if (field->wire_type != ProtobufField::kBytes) continue;
    has_trainer_spec |= field->number == 2;
    has_normalizer |= field->number == 3;
    specs_ok &= read_spec(*field, model, path);
  }
  require<IoError>(fields.ok() && specs_ok && has_trainer_spec && has_normalizer && !model.pieces.empty(),
                   "'{}' is not a SentencePiece model, or a damaged one ({} pieces found); train one with moeut-data "
                   "train-tokenizer",
                   path.string(), model.pieces.size());
  return model;
}

bool SentencePieceModel::lossless() const {
  if (!byte_fallback || add_dummy_prefix || remove_extra_whitespaces || !escape_whitespaces || rules ||
      denormalizer_rules)
    return false;
  if (algorithm == Algorithm::kWord) return false;  // looks a whole word up among all pieces: "<0x41>" becomes "A"
  std::unordered_map<std::string_view, int> uses;
  for (const Piece& piece : pieces) ++uses[piece.text];
  return std::all_of(pieces.begin(), pieces.end(), [&](const Piece& piece) {
    const bool from_text =
        piece.type == PieceType::kNormal || piece.type == PieceType::kUserDefined || piece.type == PieceType::kUnused;
    return from_text || (uses[piece.text] == 1 && !is_one_character(piece.text));
  });
}

}  // namespace moeut
