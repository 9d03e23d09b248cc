// What the fields of a configuration demand of each other.
#pragma once

#include <string>
#include <vector>

#include "trainer/config_load.h"

namespace moeut {

/// A mistake: the key it belongs to, what is wrong with what cure, and the key whose value it contradicts, if any.
struct ConfigProblem {
  std::string key;
  std::string message;
  std::string other = {};
};

/// Required fields that are missing and values that contradict each other.
std::vector<ConfigProblem> find_problems(const LoadedConfig& loaded);
/// What is accepted, but probably not meant: a cadence longer than the run, a setting without effect.
std::vector<std::string> find_warnings(const LoadedConfig& loaded);

}  // namespace moeut
