// The command line of moeut-train.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moeut {

struct CommandLine {
  std::filesystem::path config;
  std::vector<std::string> overrides;  // "key.path=value", in the order given
  std::string resume = "auto";         // or must, no, or a path: see decide_resume
  bool force = false;                  // see check_resume
  bool dry_run = false;
  bool print_config = false;
  bool print_config_docs = false;    // for scripts/generate-docs: print config_markdown() and stop
  bool print_config_schema = false;  // likewise config_schema()
  bool help = false;
};

/// Throws ConfigError: an unknown flag (with a did-you-mean), a flag without its value, no configuration file, two of
/// them. With help or print_config_docs the configuration file may be missing.
CommandLine parse_command_line(int argc, const char* const* argv);

/// What --help prints: usage, flags, exit statuses, every configuration key.
std::string train_help();

}  // namespace moeut
