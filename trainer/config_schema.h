// The field table as a JSON Schema (draft 2020-12), for editors and other programs.
#pragma once

#include <string>

namespace moeut {

/// What a configuration file may hold: sections and dotted keys, with types, ranges, choices, defaults and help. That
/// the required keys are there is not part of it, since a file may extend another.
std::string config_schema();

}  // namespace moeut
