// From a YAML file and `key.path=value` overrides to a checked RunConfig that remembers where each value came from.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/config.h"

namespace moeut {

/// Where a value was given.
struct Origin {
  enum class Kind { file, command_line };
  Kind kind = Kind::file;
  std::string file = {};
  int line = 0;  // from 1
  int column = 0;

  /// "configs/a.yaml:3:7" or "command line".
  std::string str() const;
};

struct LoadedConfig {
  RunConfig config;
  std::map<std::string, Origin, std::less<>> origins;  // by key; a key that is absent has its default
  std::vector<std::string> warnings;                   // one line each: odd, but not refused

  bool is_set(std::string_view key) const { return origins.contains(key); }
  /// "command line", "configs/a.yaml:3", "profile 44M" or "default".
  std::string origin_text(std::string_view key) const;
};

/// Reads `file`, then applies the overrides, then checks the whole. Relative paths stay relative to the current folder.
/// A file may say `extends: FILE`, relative to its own folder: what that file sets holds unless it is set again; up to
/// 8 files may extend each other so. Throws ConfigError with every mistake found, one a line: "file:line:column: key:
/// message" or "command line: key: message". A file that is missing or cannot be read is a ConfigError as well.
LoadedConfig load_config(const std::filesystem::path& file, std::span<const std::string> overrides = {});

/// The same for a text in memory, which may not extend a file; `name` is the file that messages name and that run.dir
/// defaults to.
LoadedConfig parse_config(std::string_view yaml, const std::string& name, std::span<const std::string> overrides = {});

}  // namespace moeut
