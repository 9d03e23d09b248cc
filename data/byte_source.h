// The bytes of an input file, decompressed on the way, in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

namespace moeut {

/// A stream of bytes. Not safe for several threads.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Up to `capacity` bytes to `out`; 0 at the end. Throws IoError naming the file: unreadable, or compressed data that
  /// is damaged or ends too early.
  virtual size_t read(char* out, size_t capacity) = 0;
  /// Bytes of the file itself consumed so far (compressed ones, if it is compressed): for progress.
  virtual uint64_t consumed() const = 0;
};

/// Opens a regular file; the ending decides: .gz (any number of gzip members), .zst (any number of frames, window up to
/// 128 MiB), otherwise as it is.
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path);

}  // namespace moeut
