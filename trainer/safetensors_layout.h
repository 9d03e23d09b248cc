// What the reader and the writer of safetensors share.
#pragma once

#include <optional>

#include "trainer/safetensors.h"

namespace moeut {

inline constexpr uint64_t kSafetensorsPrefixBytes = 8;
inline constexpr uint64_t kSafetensorsMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation
inline constexpr std::string_view kSafetensorsMetadataKey = "__metadata__";

/// The type of this name, unless it is unknown.
std::optional<SafetensorType> safetensor_type_of(std::string_view name);

/// Bytes of a tensor, unless an extent is negative or the product passes 2^63 - 1.
std::optional<uint64_t> safetensor_size(SafetensorType type, const std::vector<int64_t>& shape);

/// "2, 3": for messages.
std::string safetensor_shape_text(const std::vector<int64_t>& shape);

}  // namespace moeut
