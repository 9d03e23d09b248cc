// What the hardware is, for reports of measurements.
#pragma once

#include <string>

#include "core/device.h"

namespace moeut {

struct Machine {
  std::string name;        ///< as the system calls it: "NVIDIA H100 80GB HBM3"
  size_t cache_bytes = 0;  ///< of the last-level cache; 0: unknown
};

/// Throws BackendError for a CUDA device that is not there.
Machine machine_of(Device device);

}  // namespace moeut
