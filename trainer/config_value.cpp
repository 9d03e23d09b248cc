// Values of configuration fields as text: reading with checks, writing, and what a message says of them.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <type_traits>

#include "core/check.h"
#include "trainer/config_fields.h"
#include "trainer/text_util.h"

namespace moeut {
namespace {

/// All of `text` as one number, or nothing. A leading '+' is allowed.
template <class T>
std::optional<T> parse_number(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

[[noreturn]] void refuse(const Field& field, std::string_view text, bool quoted) {
  const std::string shown = show_text(text);
  throw ConfigError(
      fmt::format("expected {}, found {}", expected_text(field), quoted ? fmt::format("the text {}", shown) : shown));
}

std::optional<bool> parse_boolean(std::string_view text) {
  const std::string lower = to_lower(text);
  for (const std::string_view yes : {"true", "yes", "on", "1"}) {
    if (lower == yes) return true;
  }
  for (const std::string_view no : {"false", "no", "off", "0"}) {
    if (lower == no) return false;
  }
  return std::nullopt;
}

template <class T>
std::optional<FieldValue> parse_ranged(const Field& field, std::string_view text) {
  const auto value = parse_number<T>(text);
  if (!value) return std::nullopt;
  const auto number = static_cast<double>(*value);
  if (!std::isfinite(number) || !field.range.contains(number)) return std::nullopt;
  return FieldValue(*value);
}

std::optional<FieldValue> parse_text(const Field& field, std::string_view text) {
  if (field.type == FieldType::choice && std::ranges::find(field.choices, text) == field.choices.end())
    return std::nullopt;
  const bool line = field.type == FieldType::path;
  // A path with control characters is a mistake or an attack on terminals; nothing can be done with a NUL byte.
  const auto bad = [&](unsigned char c) { return c == 0 || (line && (c < 0x20 || c == 0x7f)); };
  require<ConfigError>(std::ranges::none_of(text, bad), "{} may not hold control characters, found {}",
                       line ? "a path" : "a text", show_text(text));
  require<ConfigError>(is_utf8(text), "expected UTF-8 text, found {}", show_text(text));
  return FieldValue(std::string(text));
}

std::optional<FieldValue> parse_typed(const Field& field, std::string_view text) {
  switch (field.type) {
    case FieldType::boolean: {
      const auto value = parse_boolean(text);
      return value ? std::optional<FieldValue>(*value) : std::nullopt;
    }
    case FieldType::integer:
      return parse_ranged<int64_t>(field, text);
    case FieldType::unsigned_integer:
      return parse_ranged<uint64_t>(field, text);
    case FieldType::real:
      return parse_ranged<double>(field, text);
    case FieldType::text:
    case FieldType::path:
    case FieldType::choice:
      return parse_text(field, text);
  }
  return std::nullopt;
}

bool is_textual(FieldType type) {
  return type == FieldType::text || type == FieldType::path || type == FieldType::choice;
}

}  // namespace

bool Range::contains(double value) const {
  return (min_open ? value > min : value >= min) && (max_open ? value < max : value <= max);
}

std::string Range::str() const {
  const bool has_min = std::isfinite(min), has_max = std::isfinite(max);
  const char* above = min_open ? ">" : ">=";
  const char* below = max_open ? "<" : "<=";
  if (has_min && has_max) return fmt::format("{} {} x {} {}", min, min_open ? "<" : "<=", below, max);
  if (has_min) return fmt::format("{} {}", above, min);
  if (has_max) return fmt::format("{} {}", below, max);
  return "";
}

std::string type_text(const Field& field) {
  switch (field.type) {
    case FieldType::boolean:
      return "true or false";
    case FieldType::integer:
    case FieldType::unsigned_integer:
      return "whole number";
    case FieldType::real:
      return "number";
    case FieldType::text:
      return "text";
    case FieldType::path:
      return "path";
    case FieldType::choice:
      return fmt::format("{}", fmt::join(field.choices, " | "));
  }
  return "";
}

std::string expected_text(const Field& field) {
  if (field.type == FieldType::unsigned_integer) return "a whole number from 0 to 18446744073709551615";
  if (field.type == FieldType::choice) {
    return fmt::format("{}{}", field.choices.size() > 1 ? "one of " : "", fmt::join(field.choices, ", "));
  }
  std::string text = field.type == FieldType::boolean ? type_text(field) : "a " + type_text(field);
  if (const std::string range = field.range.str(); !range.empty())
    text += " with " + (range[0] == '>' ? "x " + range : range);
  if (!field.unit.empty()) text += fmt::format(" ({})", field.unit);
  return text;
}

FieldValue parse_value(const Field& field, std::string_view text, bool quoted) {
  if (quoted && !is_textual(field.type)) refuse(field, text, quoted);
  const auto value = parse_typed(field, text);
  if (!value) refuse(field, text, quoted);
  return *value;
}

std::string value_text(const FieldValue& value) {
  return std::visit(
      [](const auto& v) -> std::string {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>) {
          return "";
        } else {
          return fmt::format("{}", v);
        }
      },
      value);
}

}  // namespace moeut
