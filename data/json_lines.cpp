#include "data/json_lines.h"

#include "core/check.h"
#include "data/json.h"

namespace moeut {
namespace {

/// Lines are other people's: what is legal JSON is taken.
constexpr JsonLimits kLimits{.max_depth = 512, .repeated_keys = true};

std::string shortened(const std::string& text) {
  constexpr size_t kMost = 200;
  return text.size() <= kMost ? text : text.substr(0, kMost) + "...";
}

Json parse_line(const std::string& line, const std::string& path, uint64_t line_number) {
  try {
    return Json::parse(line, kLimits);
  } catch (const IoError& error) {
    throw IoError(fmt::format("{}:{}: broken JSON or text that is not UTF-8 ({}); each line must be one JSON object",
                              path, line_number, shortened(error.what())));
  }
}

std::string field_names(const Json& object) {
  std::string names;
  for (const auto& [name, value] : object.as_object()) names += (names.empty() ? "" : ", ") + name;
  return shortened(names);
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
    const Json* found = value->find(name);
    require<IoError>(found != nullptr, "{}:{}: no field '{}' (there are: {}); name the text's field with --text-field",
                     path, line_number, name, field_names(*value));
    value = found;
    begin = end + 1;
  }
  require<IoError>(value->is_string(), "{}:{}: field '{}' is not a string; name the text's field with --text-field",
                   path, line_number, field);
  return value->as_string();
}

}  // namespace moeut
