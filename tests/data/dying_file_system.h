// A process that is killed at any one of its operations on the disk. For tests.
#pragma once

#include <memory>
#include <utility>

#include "tests/fault_file_system.h"

namespace moeut::testing {

/// The real file system until operation `dies_at` (from 0); that one and all later ones throw ProcessDied and do
/// nothing. Syncs are left out: what a killed process has written is not lost. (FaultFileSystem models power cuts, but
/// knows no files that others write, such as HDF5's.)
class DyingFileSystem final : public FileSystem {
 public:
  explicit DyingFileSystem(uint64_t dies_at) : dies_at_(dies_at) {}
  uint64_t operations() const { return operations_; }

  std::unique_ptr<WritableFile> create(const std::filesystem::path& path, uint64_t preallocate) override {
    count();
    return std::make_unique<File>(*this, posix().create(path, preallocate));
  }
  std::unique_ptr<WritableFile> append(const std::filesystem::path& path) override {
    count();
    return std::make_unique<File>(*this, posix().append(path));
  }
  void make_directories(const std::filesystem::path& path) override {
    count();
    std::filesystem::create_directories(path);
  }
  void rename(const std::filesystem::path& from, const std::filesystem::path& to) override {
    count();
    posix().rename(from, to);
  }
  void remove_all(const std::filesystem::path& path) override {
    count();
    posix().remove_all(path);
  }
  void truncate(const std::filesystem::path& path, uint64_t bytes) override {
    count();
    std::filesystem::resize_file(path, bytes);
  }
  void sync_directory(const std::filesystem::path&) override { count(); }

 private:
  class File final : public WritableFile {
   public:
    File(DyingFileSystem& fs, std::unique_ptr<WritableFile> real) : fs_(fs), real_(std::move(real)) {}
    void write(const void* data, size_t bytes) override {
      fs_.count();
      real_->write(data, bytes);
    }
    void sync() override { fs_.count(); }
    void close() override {
      fs_.count();
      real_->close();
    }

   private:
    DyingFileSystem& fs_;
    std::unique_ptr<WritableFile> real_;
  };

  void count() {
    if (operations_++ >= dies_at_) throw ProcessDied{};
  }

  uint64_t dies_at_;
  uint64_t operations_ = 0;
};

}  // namespace moeut::testing
