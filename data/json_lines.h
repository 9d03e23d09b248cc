// One record of a JSON-lines file.
#pragma once

#include <string>

namespace moeut {

/// The string at the dotted `field` of the JSON object `line`. Throws BadRecord that begins with `place`: broken JSON
/// with its column, not an object, no such field (the fields that there are), or not a string.
std::string json_text_field(const std::string& line, const std::string& field, const std::string& place);

}  // namespace moeut
