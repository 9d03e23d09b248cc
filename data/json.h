// JSON as this project's own small files need it: strict to read, the same bytes every time it is written.
// Wraps nlohmann's parser.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace moeut {

/// What a text may be before it is refused: the memory of a parsed text is about 100 bytes a value.
struct JsonLimits {
  size_t max_depth = 32;
  size_t max_values = 2'000'000;
  bool repeated_keys = false;  ///< in one object; the last one counts
};

/// One JSON value. Whole numbers keep all 64 bits; objects keep the order of their members.
class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  // Out of line: inlined, they make g++ 12 warn of uninitialised memory that is not read.
  Json();
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();
  Json(bool value);
  Json(double value);
  Json(const char* value);
  Json(std::string value);
  Json(Array value);
  Json(Object value);
  template <std::integral Integer>
  Json(Integer value) : Json(value < 0, static_cast<uint64_t>(value)) {}

  /// Throws IoError with the position and the reason: not JSON (RFC 8259), a key twice in an object
  /// (unless limits.repeated_keys), a NUL byte, or a limit passed.
  static Json parse(std::string_view text, const JsonLimits& limits = {});
  /// indent < 0: one line without spaces; otherwise one member a line. Throws IoError on a number that is not finite.
  std::string dump(int indent = -1) const;

  bool is_null() const { return value_.index() == 0; }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }
  // Each throws IoError naming what was expected and what was found.
  bool as_bool() const;
  uint64_t as_uint64() const;
  int64_t as_int64() const;
  /// Any number, also a whole one.
  double as_double() const;
  const std::string& as_string() const;
  const Array& as_array() const;
  const Object& as_object() const;

  /// Member of an object, or nullptr.
  const Json* find(std::string_view key) const;
  /// Member of an object; throws IoError if it has none of this name.
  const Json& at(std::string_view key) const;

 private:
  friend class JsonBuilder;
  Json(bool negative, uint64_t bits);
  std::string kind() const;
  void dump_to(std::string& out, int indent, int level) const;

  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, Array, Object> value_;
};

}  // namespace moeut
