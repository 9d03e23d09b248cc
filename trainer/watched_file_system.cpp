#include "trainer/watched_file_system.h"

namespace moeut {

class WatchedFileSystem::File final : public WritableFile {
 public:
  File(std::unique_ptr<WritableFile> base, const std::function<void()>& progress)
      : base_(std::move(base)), progress_(progress) {}
  void write(const void* data, size_t bytes) override {
    base_->write(data, bytes);
    progress_();
  }
  void sync() override {
    base_->sync();
    progress_();
  }
  void close() override {
    base_->close();
    progress_();
  }

 private:
  std::unique_ptr<WritableFile> base_;
  const std::function<void()>& progress_;
};

std::unique_ptr<WritableFile> WatchedFileSystem::create(const std::filesystem::path& path, uint64_t preallocate) {
  return std::make_unique<File>(base_.create(path, preallocate), progress_);
}

std::unique_ptr<WritableFile> WatchedFileSystem::append(const std::filesystem::path& path) {
  return std::make_unique<File>(base_.append(path), progress_);
}

void WatchedFileSystem::make_directories(const std::filesystem::path& path) {
  base_.make_directories(path);
  progress_();
}

void WatchedFileSystem::rename(const std::filesystem::path& from, const std::filesystem::path& to) {
  base_.rename(from, to);
  progress_();
}

void WatchedFileSystem::remove_all(const std::filesystem::path& path) {
  base_.remove_all(path);
  progress_();
}

void WatchedFileSystem::truncate(const std::filesystem::path& path, uint64_t bytes) {
  base_.truncate(path, bytes);
  progress_();
}

void WatchedFileSystem::sync_directory(const std::filesystem::path& path) {
  base_.sync_directory(path);
  progress_();
}

}  // namespace moeut
