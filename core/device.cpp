#include "core/device.h"

#include <charconv>

#include "core/backend.h"
#include "core/build_config.h"
#include "core/check.h"

namespace moeut {

int cuda_device_count() {
  return kWithCuda ? backend::device_count() : 0;
}

Device Device::parse(std::string_view name) {
  if (name == "cpu") return cpu();
  if (name == "meta") return meta();
  if (name == "auto") return cuda_device_count() > 0 ? cuda() : cpu();
  int index = 0;
  const bool plain = name == "cuda";
  bool numbered = false;
  if (name.starts_with("cuda:")) {
    const auto digits = name.substr(5);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    numbered = error == std::errc() && end == digits.data() + digits.size() && index >= 0 && digits[0] != '-';
  }
  require<ConfigError>(plain || numbered, "device: '{}' is none of auto, cpu, cuda, cuda:N", name);
  require<BackendError>(kWithCuda, "device: '{}' was asked for, but this build has no CUDA kernels; use device: cpu",
                        name);
  require<BackendError>(index < cuda_device_count(),
                        "device: '{}' was asked for, but this machine has {} CUDA device(s)", name,
                        cuda_device_count());
  return cuda(index);
}

std::string Device::str() const {
  if (is_cpu()) return "cpu";
  if (is_meta()) return "meta";
  return fmt::format("cuda:{}", index_);
}

}  // namespace moeut
