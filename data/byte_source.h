// The bytes of an input, decompressed on the way, in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

namespace moeut {

/// A stream of bytes. Not safe for several threads.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Up to `capacity` bytes to `out`; 0 at the end. Throws IoError naming the input if it cannot be read, DamagedInput
  /// if compressed data is damaged or ends too early: after all bytes before that place, and again at each further
  /// call.
  virtual size_t read(char* out, size_t capacity) = 0;
  /// Bytes of the input itself consumed so far (compressed ones, if it is compressed): for progress.
  virtual uint64_t consumed() const = 0;
};

/// Opens a regular file, or standard input for "-". The ending .gz or .zst says how it is compressed, otherwise its
/// first bytes do, which no UTF-8 text begins with: gzip (any number of members), zstd (any number of frames, window up
/// to 128 MiB), or not at all. Reading standard input throws InputInterrupted when a StopRequest is signalled.
std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path);

}  // namespace moeut
