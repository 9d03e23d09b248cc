// The one table of configuration fields. It drives reading and checking, overrides, --help, --print-config, the
// resolved config.yaml of a run folder and docs/config.md.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "trainer/config.h"

namespace moeut {

enum class FieldType : uint8_t { boolean, integer, unsigned_integer, real, text, path, choice };

/// A field's value outside of RunConfig; monostate: not set. Paths, texts and choices are strings.
using FieldValue = std::variant<std::monostate, bool, int64_t, uint64_t, double, std::string>;

/// Bounds of a number; an open bound is not itself allowed.
struct Range {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool min_open = false;
  bool max_open = false;

  bool contains(double value) const;
  /// ">= 1", "0 <= x < 1" and the like; empty if there is no bound.
  std::string str() const;
};

struct Field {
  std::string key;  // with its section: "train.batch_size"
  FieldType type = FieldType::text;
  std::string unit;
  Range range;
  std::vector<std::string> choices;  // of FieldType::choice
  std::string help;
  bool required = false;
  bool from_profile = false;  // model.profile gives it a value
  std::string default_text;   // what holds if it is not set: a value, or words such as "off"
  std::function<FieldValue(const RunConfig&)> get;
  std::function<void(RunConfig&, const FieldValue&)> set;  // the value must be of this field's type
};

/// All fields, in the order of docs/config.md; the fields of a section are neighbours.
std::span<const Field> config_fields();
/// The field with this full dotted key, or nullptr.
const Field* find_field(std::string_view key);
/// Whether fields begin with "name.".
bool is_section(std::string_view name);

/// "train" of "train.steps"; empty for a key without section.
std::string_view section_of(std::string_view key);

/// The type as a reader of documentation knows it: "whole number", "true or false", "fp32 | bf16".
std::string type_text(const Field& field);
/// What a value may be, for error messages: the type and the range with its unit.
std::string expected_text(const Field& field);

/// Text as a user writes it, to a value in range. Throws ConfigError saying what was expected and what was found
/// (without key and place). `quoted`: it stood in quotes, so it is a text and no number.
FieldValue parse_value(const Field& field, std::string_view text, bool quoted);
/// Text that parse_value reads back to the same value (shortest exact for numbers); "" for a value that is not set.
std::string value_text(const FieldValue& value);

}  // namespace moeut
