#include "core/machine.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "core/backend.h"

namespace moeut {

namespace {

/// The processor as the kernel names it.
std::string cpu_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

}  // namespace

Machine machine_of(Device device) {
  if (device.is_cuda()) {
    backend::DeviceFacts facts = backend::device_facts(device.index());
    return {std::move(facts.name), facts.cache_bytes};
  }
  return {cpu_name(), static_cast<size_t>(std::max(::sysconf(_SC_LEVEL3_CACHE_SIZE), 0L))};
}

}  // namespace moeut
