#include "trainer/config_schema.h"

#include <cmath>

#include "core/error.h"
#include "data/json.h"
#include "trainer/config_fields.h"

namespace moeut {
namespace {

Json number(double value) {
  const auto whole = static_cast<int64_t>(value);
  return static_cast<double>(whole) == value ? Json(whole) : Json(value);
}

Json json_of(const FieldValue& value) {
  return std::visit(
      []<class T>(const T& v) {
        if constexpr (std::is_same_v<T, std::monostate>)
          return Json();
        else if constexpr (std::is_same_v<T, double>)
          return number(v);
        else
          return Json(v);
      },
      value);
}

void add_type(const Field& field, Json::Object& schema) {
  switch (field.type) {
    case FieldType::boolean:
      schema.emplace_back("enum", Json::Array{true, false, "yes", "no", "on", "off", 1, 0});
      break;
    case FieldType::choice: {
      Json::Array choices;
      for (const std::string& choice : field.choices) choices.emplace_back(choice);
      schema.emplace_back("enum", std::move(choices));
      break;
    }
    case FieldType::integer:
    case FieldType::unsigned_integer:
      schema.emplace_back("type", "integer");
      break;
    case FieldType::real:
      schema.emplace_back("type", "number");
      break;
    default:
      schema.emplace_back("type", "string");
  }
}

void add_range(const Field& field, Json::Object& schema) {
  const Range& range = field.range;
  if (std::isfinite(range.min)) schema.emplace_back(range.min_open ? "exclusiveMinimum" : "minimum", number(range.min));
  if (std::isfinite(range.max)) schema.emplace_back(range.max_open ? "exclusiveMaximum" : "maximum", number(range.max));
  if (field.type == FieldType::unsigned_integer && !std::isfinite(range.min)) schema.emplace_back("minimum", 0);
}

/// A default that is a value; words such as "none" are not.
void add_default(const Field& field, Json::Object& schema) {
  try {
    if (field.type != FieldType::text && field.type != FieldType::path)
      schema.emplace_back("default", json_of(parse_value(field, field.default_text, false)));
  } catch (const ConfigError&) {
  }
}

Json schema_of(const Field& field) {
  Json::Object schema;
  add_type(field, schema);
  add_range(field, schema);
  add_default(field, schema);
  std::string help = field.help;
  if (!field.unit.empty()) help += " [" + field.unit + "]";
  if (field.required) help += " (required)";
  schema.emplace_back("description", help);
  return schema;
}

Json reference_to(const std::string& key) {
  return Json::Object{{"$ref", "#/$defs/" + key}};
}

Json closed_object(Json::Object properties) {
  return Json::Object{
      {"type", Json::Array{"object", "null"}}, {"properties", std::move(properties)}, {"additionalProperties", false}};
}

}  // namespace

std::string config_schema() {
  Json::Object definitions, top, section;
  std::string current;
  const auto close_section = [&] {
    if (!section.empty()) top.emplace_back(current, closed_object(std::exchange(section, {})));
  };
  top.emplace_back("extends",
                   Json::Object{{"type", "string"},
                                {"description", "a configuration file whose values hold unless they are set again"}});
  Json::Object dotted;
  for (const Field& field : config_fields()) {
    definitions.emplace_back(field.key, schema_of(field));
    const std::string name(section_of(field.key));
    if (name != current) close_section();
    current = name;
    if (!name.empty()) section.emplace_back(field.key.substr(name.size() + 1), reference_to(field.key));
    dotted.emplace_back(field.key, reference_to(field.key));
  }
  close_section();
  for (auto& member : dotted) top.push_back(std::move(member));
  return Json(Json::Object{{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                           {"title", "configuration of moeut-train"},
                           {"type", "object"},
                           {"properties", std::move(top)},
                           {"additionalProperties", false},
                           {"$defs", std::move(definitions)}})
             .dump(1) +
         "\n";
}

}  // namespace moeut
