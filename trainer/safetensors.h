// The safetensors format (https://github.com/huggingface/safetensors): 8 bytes of little-endian header length, a JSON
// header, the tensors.
//
//   {"name":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}, …}   offsets count from the end of the header
//
// The reader trusts nothing: every rule of the format is checked before a tensor is handed out, so that a file has one
// meaning only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/mapped_file.h"

namespace moeut {

/// Element types in the format's own order, which is the order of size.
enum class SafetensorType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64
};

/// "F32" for kF32 and so on, as written in files.
std::string_view safetensor_type_name(SafetensorType type);
/// Bytes of one element.
size_t safetensor_type_bytes(SafetensorType type);

/// A tensor to be written: row-major elements without gaps, little-endian. Either `data` points at all of them, or
/// `fill` copies the bytes [offset, offset + bytes) of them to `out` (for pitched rows, other devices); pieces are
/// asked for in order.
struct TensorBytes {
  std::string name;
  SafetensorType type = SafetensorType::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
  std::function<void(uint64_t offset, void* out, size_t bytes)> fill = {};

  /// Product of the shape and the element size. Throws IoError on a negative extent or a size past 2^63.
  uint64_t bytes() const;
};

/// A tensor found in a file; `offset` counts from the first byte of the file.
struct SafetensorInfo {
  std::string name;
  SafetensorType type = SafetensorType::kF32;
  std::vector<int64_t> shape;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

/// The tensors of a file, in the order of their offsets, and its free "__metadata__".
struct SafetensorsContents {
  std::vector<SafetensorInfo> tensors;
  std::map<std::string, std::string> metadata;
};

/// Checks a whole file that lies in memory. Throws IoError, which names `what`, unless: the length fits and is at most
/// 100 MB, the header is strict JSON beginning with '{' and no key occurs twice, every entry has a known dtype, a shape
/// whose size does not overflow and exactly that many bytes, and the tensors cover the data from first to last byte
/// without hole or overlap.
SafetensorsContents parse_safetensors(std::span<const std::byte> file, std::string_view what);

/// A file opened for reading; the tensors are views of it.
class SafetensorsFile {
 public:
  /// Throws IoError as parse_safetensors and MappedFile do.
  static SafetensorsFile open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<SafetensorInfo>& tensors() const { return contents_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return contents_.metadata; }
  /// nullptr if there is none of this name.
  const SafetensorInfo* find(std::string_view name) const;
  /// Valid as long as this object; aligned to bytes only.
  std::span<const std::byte> bytes(const SafetensorInfo& tensor) const;
  /// Copies the tensor `name` to `out`. Throws IoError, which shows both sides, if it is missing or has another dtype
  /// or shape.
  void copy(std::string_view name, SafetensorType type, const std::vector<int64_t>& shape, void* out) const;

 private:
  SafetensorsFile(std::filesystem::path path, MappedFile file);

  std::filesystem::path path_;
  MappedFile file_;
  SafetensorsContents contents_;
  std::map<std::string_view, size_t> by_name_;  // views of contents_.tensors[i].name
};

/// Receives the next bytes of a file being written.
using ByteSink = std::function<void(const void* data, size_t bytes)>;

/// Size of the file that write_safetensors makes of these tensors. Throws as it does.
uint64_t safetensors_bytes(const std::vector<TensorBytes>& tensors);

/// Streams a whole file to `sink`. Its bytes depend on the names, types, shapes and elements alone, not on the order of
/// `tensors`: larger element types come first, so that each tensor is aligned, then names in byte order (what the
/// Python package does). Throws IoError on a name twice, "__metadata__" as a name, a bad shape, or a tensor with
/// neither data nor fill.
void write_safetensors(const std::vector<TensorBytes>& tensors, const ByteSink& sink);

}  // namespace moeut
