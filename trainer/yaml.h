// YAML text to a plain tree, as strictly as a configuration deserves. The only place that knows yaml-cpp is yaml.cpp.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"

namespace moeut {

/// Line and column count from 1; 0: not known.
struct YamlPlace {
  int line = 0;
  int column = 0;
};

struct YamlMember;

struct YamlNode {
  enum class Kind { null, scalar, list, map };

  Kind kind = Kind::null;
  YamlPlace place;
  std::string text;                 // of a scalar
  bool quoted = false;              // a scalar in quotes or a block, or one tagged as text
  std::vector<YamlNode> items;      // of a list
  std::vector<YamlMember> members;  // of a map, in the order of the file; a key may occur twice
};

struct YamlMember {
  YamlNode key;
  YamlNode value;
};

/// The text is not YAML, or breaks a limit.
class YamlError : public Error {
 public:
  YamlError(YamlPlace place, const std::string& message) : Error(message), place_(place) {}
  YamlPlace place() const { return place_; }

 private:
  YamlPlace place_;
};

struct YamlLimits {
  size_t max_bytes = size_t{1} << 20;
  size_t max_nodes = 10'000;
  size_t max_depth = 16;
};

/// One document. Aliases (and so merge keys) are refused: a few hundred bytes of them can stand for 10^11 values.
/// Throws YamlError.
YamlNode parse_yaml(std::string_view text, const YamlLimits& limits = {});

}  // namespace moeut
