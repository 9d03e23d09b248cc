// One process at a time in a run folder.
#pragma once

#include <filesystem>

namespace moeut {

/// Holds <folder>/lock while it lives. The lock goes with the process, however that ends; the file stays.
class FolderLock {
 public:
  /// The folder must exist. Throws IoError if another process holds it or the file cannot be made.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace moeut
