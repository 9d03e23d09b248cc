#include "data/protobuf_fields.h"

#include <cstring>

namespace moeut {

std::optional<ProtobufField> ProtobufFields::next() {
  if (rest_.empty() || !ok_) return std::nullopt;
  ProtobufField field;
  const uint64_t key = varint();
  field.number = key >> 3;
  field.wire_type = key & 7;
  switch (field.wire_type) {
    case ProtobufField::kVarint:
      field.value = varint();
      break;
    case ProtobufField::kFixed64:
      field.value = fixed(8);
      break;
    case ProtobufField::kBytes:
      field.bytes = take(varint());
      break;
    case ProtobufField::kFixed32:
      field.value = fixed(4);
      break;
    default:
      ok_ = false;
  }
  ok_ = ok_ && field.number != 0;
  return ok_ ? std::optional(field) : std::nullopt;
}

std::string_view ProtobufFields::take(uint64_t count) {
  if (count > rest_.size()) {
    ok_ = false;
    return {};
  }
  const std::string_view taken = rest_.substr(0, count);
  rest_.remove_prefix(count);
  return taken;
}

uint64_t ProtobufFields::fixed(size_t count) {
  uint64_t value = 0;
  const std::string_view taken = take(count);
  if (ok_) std::memcpy(&value, taken.data(), count);
  return value;
}

uint64_t ProtobufFields::varint() {
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

}  // namespace moeut
