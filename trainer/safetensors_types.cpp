#include <array>

#include "core/check.h"
#include "trainer/safetensors.h"
#include "trainer/safetensors_layout.h"

namespace moeut {
namespace {

struct TypeRow {
  std::string_view name;
  size_t bytes;
};

// Indexed by SafetensorType.
constexpr std::array<TypeRow, 17> kTypes = {{{"BOOL", 1},
                                             {"U8", 1},
                                             {"I8", 1},
                                             {"F8_E5M2", 1},
                                             {"F8_E4M3", 1},
                                             {"F8_E8M0", 1},
                                             {"I16", 2},
                                             {"U16", 2},
                                             {"F16", 2},
                                             {"BF16", 2},
                                             {"I32", 4},
                                             {"U32", 4},
                                             {"F32", 4},
                                             {"C64", 8},
                                             {"F64", 8},
                                             {"I64", 8},
                                             {"U64", 8}}};
static_assert(kTypes.size() == static_cast<size_t>(SafetensorType::kU64) + 1);

}  // namespace

std::string_view safetensor_type_name(SafetensorType type) {
  return kTypes[static_cast<size_t>(type)].name;
}

size_t safetensor_type_bytes(SafetensorType type) {
  return kTypes[static_cast<size_t>(type)].bytes;
}

std::optional<SafetensorType> safetensor_type_of(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i) {
    if (kTypes[i].name == name) return static_cast<SafetensorType>(i);
  }
  return std::nullopt;
}

std::optional<uint64_t> safetensor_size(SafetensorType type, const std::vector<int64_t>& shape) {
  int64_t bytes = static_cast<int64_t>(safetensor_type_bytes(type));
  // The product without the zeros must fit too: {2^62, 2^62, 0} is refused, whatever the order of the extents.
  bool empty = false;
  for (const int64_t extent : shape) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bytes, extent, &bytes)) {
      return std::nullopt;
    }
  }
  return empty ? 0 : static_cast<uint64_t>(bytes);
}

std::string safetensor_shape_text(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return text;
}

uint64_t TensorBytes::bytes() const {
  const auto size = safetensor_size(type, shape);
  require<IoError>(size.has_value(), "tensor '{}': shape ({}) is negative or too large", name,
                   safetensor_shape_text(shape));
  return *size;
}

}  // namespace moeut
