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

 private:
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace moeut
