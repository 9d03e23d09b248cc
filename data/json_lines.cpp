#include "data/json_lines.h"

#include "core/check.h"
#include "data/input_errors.h"
#include "data/json.h"
#include "data/utf8.h"

namespace moeut {
namespace {

/// Lines are other people's: what is legal JSON is taken.
constexpr JsonLimits kLimits{.max_depth = 512, .repeated_keys = true};

Json parse_line(const std::string& line, const std::string& place) {
  try {
    return Json::parse(line, kLimits);
  } catch (const IoError& error) {
    throw BadRecord(fmt::format("{}: broken JSON or text that is not UTF-8 ({}); each line must be one JSON object",
                                place, printable(error.what())));
  }
}

std::string field_names(const Json& object) {
  std::string names;
  for (const auto& [name, value] : object.as_object()) names += (names.empty() ? "" : ", ") + name;
  return printable(names);
}

}  // namespace

std::string json_text_field(const std::string& line, const std::string& field, const std::string& place) {
  const Json record = parse_line(line, place);
  const Json* value = &record;
  for (size_t begin = 0; begin <= field.size();) {
    const size_t end = std::min(field.find('.', begin), field.size());
    const std::string name = field.substr(begin, end - begin);
    require<BadRecord>(value->is_object(), "{}: not a JSON object where field '{}' is looked for; see --text-field",
                       place, name);
    const Json* found = value->find(name);
    require<BadRecord>(found != nullptr, "{}: no field '{}' (there are: {}); name the text's field with --text-field",
                       place, name, field_names(*value));
    value = found;
    begin = end + 1;
  }
  require<BadRecord>(value->is_string(), "{}: field '{}' is not a string; name the text's field with --text-field",
                     place, field);
  return value->as_string();
}

}  // namespace moeut
