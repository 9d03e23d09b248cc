// One record of a JSON-lines file.
#pragma once

#include <cstdint>
#include <string>

namespace moeut {

/// The string at the dotted `field` of the JSON object `line`. Throws IoError naming path:line_number: broken JSON with
/// its column, not an object, no such field (the fields that there are), or not a string.
std::string json_text_field(const std::string& line, const std::string& field, const std::string& path,
                            uint64_t line_number);

}  // namespace moeut
