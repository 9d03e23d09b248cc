// The field table and a configuration as text for people.
#pragma once

#include <string>

#include "trainer/config_load.h"

namespace moeut {

/// Every key with its type, range, default and help, for --help.
std::string config_help();

/// Every value with its origin, for --print-config: valid YAML, the origin as a comment.
std::string print_config(const LoadedConfig& loaded);

/// The resolved configuration, for the run folder: every value that is set, and nothing of where it came from. Reading
/// it back gives an equal RunConfig, and the same text again.
std::string config_yaml(const RunConfig& config);

/// docs/config.md. A test fails if the file differs; scripts/generate-docs writes it.
std::string config_markdown();

}  // namespace moeut
