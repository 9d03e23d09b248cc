// A look at a SentencePiece model before SentencePiece sees it: a piece of hundreds of kilobytes overflows its stack,
// and a damaged file may load as a smaller vocabulary.  https://protobuf.dev/programming-guides/encoding,
// sentencepiece_model.proto
#include <cmath>
#include <cstring>
#include <optional>

#include "core/check.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

namespace moeut {
namespace {

constexpr size_t kMaxPieceBytes = 4096;
constexpr size_t kMaxPieces = size_t{1} << 22;
constexpr uint64_t kMaxPieceType = 6;  // BYTE

struct Field {
  uint64_t number = 0, wire_type = 0, value = 0;  ///< value: of a varint or a fixed-size field
  std::string_view bytes;                         ///< of a length-delimited field
};

/// Walks the fields of one protobuf message.
class Fields {
 public:
  explicit Fields(std::string_view message) : rest_(message) {}

  bool ok() const { return ok_; }
  /// Nothing at the end, or when the message is not well formed (then ok() is false).
  std::optional<Field> next() {
    if (rest_.empty() || !ok_) return std::nullopt;
    Field field;
    const uint64_t key = varint();
    field.number = key >> 3;
    field.wire_type = key & 7;
    switch (field.wire_type) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.value = fixed(4);
        break;
      default:
        ok_ = false;
    }
    ok_ = ok_ && field.number != 0;
    return ok_ ? std::optional(field) : std::nullopt;
  }

 private:
  std::string_view take(uint64_t count) {
    if (count > rest_.size()) {
      ok_ = false;
      return {};
    }
    const std::string_view taken = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return taken;
  }
  uint64_t fixed(size_t count) {
    uint64_t value = 0;
    const std::string_view taken = take(count);
    if (ok_) std::memcpy(&value, taken.data(), count);
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const std::string_view byte = take(1);
      if (!ok_) return 0;
      value |= uint64_t{static_cast<unsigned char>(byte[0]) & 0x7Fu} << shift;
      if ((static_cast<unsigned char>(byte[0]) & 0x80u) == 0) return value;
    }
    ok_ = false;
    return 0;
  }

  std::string_view rest_;
  bool ok_ = true;
};

/// What is wrong with one piece, or nothing.
const char* piece_defect(std::string_view message) {
  Fields fields(message);
  std::string_view text;
  uint64_t type = 1;
  float score = 0;
  while (const auto field = fields.next()) {
    if (field->number == 1 && field->wire_type == 2) text = field->bytes;
    if (field->number == 2 && field->wire_type == 5) std::memcpy(&score, &field->value, sizeof score);
    if (field->number == 3 && field->wire_type == 0) type = field->value;
  }
  if (!fields.ok()) return "is not well formed";
  if (text.empty()) return "is empty";
  if (text.size() > kMaxPieceBytes) return "is longer than 4096 bytes";
  if (text.find('\0') != std::string_view::npos) return "holds a zero byte";
  if (first_invalid_utf8(text) < text.size()) return "is not valid UTF-8";
  if (!std::isfinite(score)) return "has a score that is not finite";
  if (type < 1 || type > kMaxPieceType) return "has an unknown type";
  return nullptr;
}

}  // namespace

void check_sentencepiece_model(std::string_view bytes, const std::filesystem::path& path) {
  Fields fields(bytes);
  size_t pieces = 0;
  bool has_trainer_spec = false, has_normalizer = false;  // both follow the pieces: a file cut there has none
  while (const auto field = fields.next()) {
    has_trainer_spec |= field->number == 2 && field->wire_type == 2;
    has_normalizer |= field->number == 3 && field->wire_type == 2;
    if (field->number != 1) continue;
    const char* defect = field->wire_type == 2 ? piece_defect(field->bytes) : "is not a message";
    require<IoError>(defect == nullptr,
                     "'{}' is not a usable SentencePiece model: piece {} {}; train it again or restore it",
                     path.string(), pieces, defect == nullptr ? "" : defect);
    ++pieces;
  }
  require<IoError>(fields.ok() && has_trainer_spec && has_normalizer && pieces >= 1 && pieces <= kMaxPieces,
                   "'{}' is not a SentencePiece model, or a damaged one ({} pieces found); train one with moeut-data "
                   "train-tokenizer",
                   path.string(), pieces);
}

}  // namespace moeut
