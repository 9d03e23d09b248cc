#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "data/json.h"
#include "trainer/safetensors.h"
#include "trainer/safetensors_layout.h"

namespace moeut {
namespace {

std::string_view header_of(std::span<const std::byte> file) {
  require<IoError>(file.size() >= kSafetensorsPrefixBytes, "{} bytes are too few for a header; is it complete?",
                   file.size());
  uint64_t length = 0;
  for (size_t i = 0; i < kSafetensorsPrefixBytes; ++i) length |= static_cast<uint64_t>(file[i]) << (8 * i);
  require<IoError>(length <= kSafetensorsMaxHeaderBytes, "header of {} bytes passes the limit of {}", length,
                   kSafetensorsMaxHeaderBytes);
  const uint64_t rest = file.size() - kSafetensorsPrefixBytes;
  require<IoError>(length <= rest, "header of {} bytes, but only {} follow; is the file complete?", length, rest);
  const std::string_view header(reinterpret_cast<const char*>(file.data()) + kSafetensorsPrefixBytes, length);
  require<IoError>(header.starts_with('{'), "the header does not begin with '{{'");
  return header;
}

std::map<std::string, std::string> metadata_of(const Json& json) {
  std::map<std::string, std::string> metadata;
  for (const auto& [key, value] : json.as_object()) metadata.emplace(key, value.as_string());
  return metadata;
}

/// `offset` of the result still counts from the end of the header.
SafetensorInfo tensor_of(const std::string& name, const Json& json) {
  require<IoError>(json.as_object().size() == 3, "expected the fields dtype, shape and data_offsets");
  SafetensorInfo tensor;
  tensor.name = name;
  const std::string& type = json.at("dtype").as_string();
  const auto known = safetensor_type_of(type);
  require<IoError>(known.has_value(), "dtype '{}' is not supported", type);
  tensor.type = *known;
  for (const Json& extent : json.at("shape").as_array()) tensor.shape.push_back(extent.as_int64());
  const auto size = safetensor_size(tensor.type, tensor.shape);
  require<IoError>(size.has_value(), "shape ({}) is negative or too large", safetensor_shape_text(tensor.shape));
  const Json::Array& offsets = json.at("data_offsets").as_array();
  require<IoError>(offsets.size() == 2, "data_offsets has {} numbers instead of 2", offsets.size());
  const uint64_t begin = offsets[0].as_uint64();
  const uint64_t end = offsets[1].as_uint64();
  require<IoError>(begin <= end && end - begin == *size, "data_offsets [{}, {}] do not hold the {} bytes of {} ({})",
                   begin, end, *size, type, safetensor_shape_text(tensor.shape));
  tensor.offset = begin;
  tensor.bytes = *size;
  return tensor;
}

/// Tensors must follow each other from byte 0 to the last one: no hole in which something could hide, no byte that
/// means two things.
void check_coverage(std::vector<SafetensorInfo>& tensors, uint64_t data_bytes) {
  std::ranges::sort(tensors, [](const SafetensorInfo& a, const SafetensorInfo& b) {
    return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name);
  });
  uint64_t covered = 0;
  for (const SafetensorInfo& tensor : tensors) {
    require<IoError>(tensor.offset == covered,
                     "tensor '{}' begins at byte {} of the data instead of {}: a hole or an overlap", tensor.name,
                     tensor.offset, covered);
    require<IoError>(tensor.bytes <= data_bytes - covered,
                     "tensor '{}' ends at byte {} of the data, which has {}; is the file complete?", tensor.name,
                     tensor.offset + tensor.bytes, data_bytes);
    covered += tensor.bytes;
  }
  require<IoError>(covered == data_bytes, "{} bytes of data belong to no tensor", data_bytes - covered);
}

SafetensorsContents parse(std::span<const std::byte> file) {
  const std::string_view header = header_of(file);
  const Json json = Json::parse(header, {.max_depth = 3});
  SafetensorsContents contents;
  for (const auto& [name, entry] : json.as_object()) {
    try {
      if (name == kSafetensorsMetadataKey) {
        contents.metadata = metadata_of(entry);
      } else {
        contents.tensors.push_back(tensor_of(name, entry));
      }
    } catch (const IoError& error) {
      throw IoError(fmt::format("entry '{}': {}", name, error.what()));
    }
  }
  const uint64_t data_start = kSafetensorsPrefixBytes + header.size();
  check_coverage(contents.tensors, file.size() - data_start);
  for (SafetensorInfo& tensor : contents.tensors) tensor.offset += data_start;
  return contents;
}

}  // namespace

SafetensorsContents parse_safetensors(std::span<const std::byte> file, std::string_view what) {
  try {
    return parse(file);
  } catch (const IoError& error) {
    throw IoError(fmt::format("'{}' is not a valid safetensors file: {}", what, error.what()));
  }
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  return {path, MappedFile(path)};
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path, MappedFile file)
    : path_(std::move(path)), file_(std::move(file)), contents_(parse_safetensors(file_.bytes(), path_.string())) {
  for (size_t i = 0; i < contents_.tensors.size(); ++i) by_name_.emplace(contents_.tensors[i].name, i);
}

const SafetensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &contents_.tensors[found->second];
}

std::span<const std::byte> SafetensorsFile::bytes(const SafetensorInfo& tensor) const {
  return file_.bytes().subspan(tensor.offset, tensor.bytes);
}

void SafetensorsFile::copy(std::string_view name, SafetensorType type, const std::vector<int64_t>& shape,
                           void* out) const {
  const SafetensorInfo* tensor = find(name);
  require<IoError>(tensor != nullptr, "'{}' has no tensor '{}' (it has {} others): it belongs to another model",
                   path_.string(), name, contents_.tensors.size());
  require<IoError>(tensor->type == type && tensor->shape == shape,
                   "'{}': tensor '{}' is {} ({}), this model wants {} ({}): it belongs to another model",
                   path_.string(), name, safetensor_type_name(tensor->type), safetensor_shape_text(tensor->shape),
                   safetensor_type_name(type), safetensor_shape_text(shape));
  if (tensor->bytes > 0) std::memcpy(out, bytes(*tensor).data(), tensor->bytes);
}

}  // namespace moeut
