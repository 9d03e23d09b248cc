// Any bytes as a configuration file: either a ConfigError, or a configuration that its own resolved text gives again.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/error.h"
#include "trainer/config_load.h"
#include "trainer/config_print.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // What follows the last NUL byte is an override, so that the fuzzer reaches those as well.
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t split = input.rfind('\0');
  std::vector<std::string> overrides;
  if (split != std::string::npos) overrides.push_back(input.substr(split + 1));
  std::string yaml, again;
  try {
    const moeut::LoadedConfig loaded = moeut::parse_config(input.substr(0, split), "fuzz.yaml", overrides);
    yaml = moeut::config_yaml(loaded.config);
    moeut::print_config(loaded);
  } catch (const moeut::ConfigError&) {
    return 0;
  }
  try {
    again = moeut::config_yaml(moeut::parse_config(yaml, "fuzz.yaml").config);
  } catch (const moeut::ConfigError&) {
  }
  if (again != yaml) std::abort();
  return 0;
}
