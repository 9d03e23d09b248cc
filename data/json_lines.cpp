#include "data/json_lines.h"

#include <nlohmann/json.hpp>

#include "core/check.h"

namespace moeut {
namespace {

using Json = nlohmann::json;

Json parse_line(const std::string& line, const std::string& path, uint64_t line_number) {
  try {
    return Json::parse(line);
  } catch (const Json::parse_error& error) {
    throw IoError(
        fmt::format("{}:{}: broken JSON or text that is not UTF-8, at byte {} of the line; each line must be "
                    "one JSON object",
                    path, line_number, error.byte));
  }
}

std::string field_names(const Json& object) {
  std::string names;
  for (const auto& [name, value] : object.items()) names += (names.empty() ? "" : ", ") + name;
  return names.size() <= 200 ? names : names.substr(0, 200) + "...";
}

}  // namespace

std::string json_text_field(const std::string& line, const std::string& field, const std::string& path,
                            uint64_t line_number) {
  const Json record = parse_line(line, path, line_number);
  const Json* value = &record;
  for (size_t begin = 0; begin <= field.size();) {
    const size_t end = std::min(field.find('.', begin), field.size());
    const std::string name = field.substr(begin, end - begin);
    require<IoError>(value->is_object(), "{}:{}: not a JSON object where field '{}' is looked for; see --text-field",
                     path, line_number, name);
    const auto found = value->find(name);
    require<IoError>(found != value->end(),
                     "{}:{}: no field '{}' (there are: {}); name the text's field with --text-field", path, line_number,
                     name, field_names(*value));
    value = &*found;
    begin = end + 1;
  }
  require<IoError>(value->is_string(), "{}:{}: field '{}' is not a string; name the text's field with --text-field",
                   path, line_number, field);
  return value->get<std::string>();
}

}  // namespace moeut
