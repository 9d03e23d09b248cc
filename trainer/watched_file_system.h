// A FileSystem that tells when something has been written: long saves are progress, too.
#pragma once

#include <functional>

#include "core/file.h"

namespace moeut {

class WatchedFileSystem final : public FileSystem {
 public:
  /// `base` must outlive this. `progress` is called after every operation and every write, from the thread that does
  /// it.
  WatchedFileSystem(FileSystem& base, std::function<void()> progress) : base_(base), progress_(std::move(progress)) {}

  std::unique_ptr<WritableFile> create(const std::filesystem::path& path, uint64_t preallocate = 0) override;
  std::unique_ptr<WritableFile> append(const std::filesystem::path& path) override;
  void make_directories(const std::filesystem::path& path) override;
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override;
  void remove_all(const std::filesystem::path& path) override;
  void truncate(const std::filesystem::path& path, uint64_t bytes) override;
  void sync_directory(const std::filesystem::path& path) override;

 private:
  class File;
  FileSystem& base_;
  std::function<void()> progress_;
};

}  // namespace moeut
