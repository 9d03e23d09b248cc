// A regular file seen as memory.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace moeut {

/// A whole file mapped read-only; pages are read when they are touched. The file must not be shortened meanwhile (the
/// system answers a touched page that is gone with SIGBUS): files of this project are replaced by rename, never cut in
/// place.
class MappedFile {
 public:
  /// Throws IoError if there is no regular file at `path` or it cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return {data_, size_}; }

  /// Pages that were touched no longer count as memory of this process; touched again, they are read again. For those
  /// who go once through a large file. Safe while other threads read.
  void forget() const;

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace moeut
