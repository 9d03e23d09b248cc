// The wire format of Protocol Buffers, as far as a look at a file needs it.
// https://protobuf.dev/programming-guides/encoding
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace moeut {

struct ProtobufField {
  enum WireType : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

  uint64_t number = 0, wire_type = 0;
  uint64_t value = 0;      ///< of a varint or a fixed-size field
  std::string_view bytes;  ///< of a length-delimited field: a string, bytes or a message

  bool is(uint64_t field_number, WireType type) const { return number == field_number && wire_type == type; }
};

/// Walks the fields of one message, which it does not own. Never reads outside it.
class ProtobufFields {
 public:
  explicit ProtobufFields(std::string_view message) : rest_(message) {}

  /// Nothing at the end, or when the message is not well formed (then ok() is false).
  std::optional<ProtobufField> next();
  bool ok() const { return ok_; }

 private:
  std::string_view take(uint64_t count);
  uint64_t fixed(size_t count);
  uint64_t varint();

  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace moeut
