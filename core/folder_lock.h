// One process at a time in a folder.
#pragma once

#include <filesystem>
#include <string_view>

namespace moeut {

/// Holds <folder>/lock while it lives. The lock goes with the process, however that ends; the file stays.
class FolderLock {
 public:
  /// The folder must exist. Throws IoError if another process holds it ("'<folder>' is in use: <who_and_cure>") or the
  /// file cannot be made.
  FolderLock(const std::filesystem::path& folder, std::string_view who_and_cure);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace moeut
