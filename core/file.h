// Files as a crash leaves them: everything durable goes through a FileSystem, so that tests can fail any single
// operation. Every function throws IoError naming the path, the operation and the system's reason.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace moeut {

/// A file being written from its start or, with FileSystem::append, from its end. Destroying it closes it without
/// syncing.
class WritableFile {
 public:
  virtual ~WritableFile() = default;
  virtual void write(const void* data, size_t bytes) = 0;
  /// Data and size are on the disk when this returns (fdatasync).
  virtual void sync() = 0;
  /// Closes; an error that the system reports only now is thrown.
  virtual void close() = 0;
};

/// The operations that change a disk. `FileSystem::posix()` is the real one.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  /// Creates or truncates `path`, without following a symbolic link. `preallocate` bytes are reserved, so that a full
  /// disk shows now.
  virtual std::unique_ptr<WritableFile> create(const std::filesystem::path& path, uint64_t preallocate = 0) = 0;
  /// Opens an existing file to write behind its end, without following a symbolic link.
  virtual std::unique_ptr<WritableFile> append(const std::filesystem::path& path) = 0;
  /// Creates the folders that are missing; unlike files, they are on the disk when this returns.
  virtual void make_directories(const std::filesystem::path& path) = 0;
  /// `to` is replaced if it is a file or an empty folder.
  virtual void rename(const std::filesystem::path& from, const std::filesystem::path& to) = 0;
  /// A file, or a folder with all it holds; nothing happens if there is none.
  virtual void remove_all(const std::filesystem::path& path) = 0;
  /// Cuts the file to its first `bytes`; they are on the disk when this returns.
  virtual void truncate(const std::filesystem::path& path, uint64_t bytes) = 0;
  /// The names in the folder (created, renamed, removed) are on the disk when this returns.
  virtual void sync_directory(const std::filesystem::path& path) = 0;

  static FileSystem& posix();
};

/// The whole file, at most `max_bytes` of it: a larger one, a folder or a device is refused.
std::string read_file(const std::filesystem::path& path, uint64_t max_bytes);

/// Replaces `path` by `content`: temporary name beside it, sync, rename, folder synced. Readers see the old or the new
/// file, never a part.
void write_file_atomically(FileSystem& fs, const std::filesystem::path& path, std::string_view content);

/// Throws IoError, which ends in `cure`, unless `path` is a folder that this user can write to or can be made one.
/// Changes nothing on the disk.
void require_writable_folder(const std::filesystem::path& path, std::string_view cure);

/// Bytes that an ordinary user can still write on the file system that holds `path`.
uint64_t free_disk_space(const std::filesystem::path& path);

}  // namespace moeut
