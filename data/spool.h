// A file that grows while its final size is unknown, and from which another process can go on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <vector>

#include "core/file.h"

namespace moeut {

/// Bytes in the order in which they are appended; a buffer gathers small ones. Throws IoError as core/file.h does.
class Spool {
 public:
  /// A new, empty file.
  explicit Spool(const std::filesystem::path& path, FileSystem& fs = FileSystem::posix());
  /// The first `bytes` of the file that an earlier Spool synced; what was written behind them is cut off. IoError if it
  /// is shorter.
  Spool(const std::filesystem::path& path, uint64_t bytes, FileSystem& fs = FileSystem::posix());

  void append(const void* data, size_t bytes);
  /// Drops what was appended behind the first `bytes`.
  void cut(uint64_t bytes);
  /// All that was appended is on the disk when this returns; so is the file's name, once the folder is synced.
  void sync();
  /// All that was appended can be read through path(); nothing may be appended afterwards.
  void close();

  uint64_t bytes() const { return bytes_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void flush();

  std::filesystem::path path_;
  FileSystem* fs_;
  std::unique_ptr<WritableFile> file_;
  std::vector<std::byte> buffer_;
  uint64_t bytes_ = 0;
  bool synced_ = false;
};

}  // namespace moeut
