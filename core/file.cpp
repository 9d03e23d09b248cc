#include "core/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>
#include <vector>

#include "core/check.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

std::string_view cure(int error) {
  switch (error) {
    case ENOSPC:
    case EDQUOT:
      return ": free some disk space or choose another folder";
    case EACCES:
    case EPERM:
    case EROFS:
      return ": make it accessible to this user or choose another path";
    case ELOOP:
      return ": it is a symbolic link, which is not followed here; give the real path";
    case ENOENT:
      return ": check the path";
    default:
      return "";
  }
}

[[noreturn]] void fail(std::string_view operation, const stdfs::path& path, int error) {
  throw IoError(fmt::format("cannot {} '{}': {}{}", operation, path.string(), std::generic_category().message(error),
                            cure(error)));
}

/// An open file descriptor, closed on the way out.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

Descriptor open_or_fail(std::string_view operation, const stdfs::path& path, int flags) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), flags | O_CLOEXEC, 0666);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail(operation, path, errno);
  return Descriptor(fd);
}

/// Size of a regular file; anything else (a folder, a device, a pipe) is refused, because reading or truncating it
/// would not do what is meant.
uint64_t regular_file_size(const Descriptor& file, std::string_view operation, const stdfs::path& path) {
  struct stat info = {};
  if (::fstat(file.get(), &info) != 0) fail(operation, path, errno);
  require<IoError>(S_ISREG(info.st_mode), "cannot {} '{}': it is not a regular file; give the path of a file",
                   operation, path.string());
  return static_cast<uint64_t>(info.st_size);
}

stdfs::path parent_of(const stdfs::path& path) {
  const stdfs::path parent = path.parent_path();
  return parent.empty() ? stdfs::path(".") : parent;
}

/// `path` itself, or the nearest folder (or file) above it that exists.
stdfs::path existing_part(stdfs::path path) {
  std::error_code error;
  while (!path.empty() && !stdfs::exists(path, error) && path != path.parent_path()) path = path.parent_path();
  return path.empty() ? stdfs::path(".") : path;
}

class PosixWritableFile final : public WritableFile {
 public:
  PosixWritableFile(Descriptor file, stdfs::path path) : file_(std::move(file)), path_(std::move(path)) {}

  void write(const void* data, size_t bytes) override {
    const auto* next = static_cast<const char*>(data);
    while (bytes > 0) {
      const ssize_t written = ::write(file_.get(), next, bytes);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("write", path_, errno);
      next += written;
      bytes -= static_cast<size_t>(written);
    }
  }

  void sync() override {
    // Never retried: after a failed fdatasync Linux marks the pages clean, so a second call would report a success that
    // is none.
    if (::fdatasync(file_.get()) != 0) fail("sync", path_, errno);
  }

  void close() override {
    // EINTR: Linux has closed the descriptor all the same.
    if (const int fd = file_.release(); fd >= 0 && ::close(fd) != 0 && errno != EINTR) fail("close", path_, errno);
  }

 private:
  Descriptor file_;
  stdfs::path path_;
};

class PosixFileSystem final : public FileSystem {
 public:
  std::unique_ptr<WritableFile> create(const stdfs::path& path, uint64_t preallocate) override {
    // O_NONBLOCK: opening a pipe that nobody reads fails instead of hanging. Truncated only once it is known to be a
    // file.
    Descriptor file = open_or_fail("create", path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK);
    regular_file_size(file, "create", path);
    if (::ftruncate(file.get(), 0) != 0) fail("truncate", path, errno);
    reserve(file, path, preallocate);
    return std::make_unique<PosixWritableFile>(std::move(file), path);
  }

  std::unique_ptr<WritableFile> append(const stdfs::path& path) override {
    Descriptor file = open_or_fail("append to", path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_NONBLOCK);
    regular_file_size(file, "append to", path);
    return std::make_unique<PosixWritableFile>(std::move(file), path);
  }

  /// Folders made here are durable: the parent of each is synced before the next is made.
  void make_directories(const stdfs::path& path) override {
    std::vector<stdfs::path> missing;
    std::error_code error;
    for (stdfs::path p = path; !p.empty() && !stdfs::is_directory(p, error); p = p.parent_path()) {
      if (p.has_filename()) missing.push_back(p);
      if (p == p.parent_path()) break;
    }
    for (auto p = missing.rbegin(); p != missing.rend(); ++p) {
      if (::mkdir(p->c_str(), 0777) != 0 && !(errno == EEXIST && stdfs::is_directory(*p, error))) {
        fail("create the folder", *p, errno);
      }
      sync_directory(parent_of(*p));
    }
  }

  void rename(const stdfs::path& from, const stdfs::path& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      fail(fmt::format("rename '{}' to", from.string()), to, errno);
    }
  }

  void remove_all(const stdfs::path& path) override {
    std::error_code error;
    stdfs::remove_all(path, error);
    if (error) fail("remove", path, error.value());
  }

  void truncate(const stdfs::path& path, uint64_t bytes) override {
    const Descriptor file = open_or_fail("truncate", path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK);
    regular_file_size(file, "truncate", path);
    if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) fail("truncate", path, errno);
    if (::fdatasync(file.get()) != 0) fail("sync", path, errno);
  }

  void sync_directory(const stdfs::path& path) override {
    const Descriptor folder = open_or_fail("open the folder", path, O_RDONLY | O_DIRECTORY);
    // EINVAL: a file system without folder sync (some FUSE mounts); there is nothing more that could be done.
    if (::fsync(folder.get()) != 0 && errno != EINVAL) fail("sync the folder", path, errno);
  }

 private:
  static void reserve(const Descriptor& file, const stdfs::path& path, uint64_t bytes) {
    if (bytes == 0) return;
    int result = 0;
    do {
      result = ::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes));
    } while (result != 0 && errno == EINTR);
    // A file system that cannot reserve (NFS 3, some FUSE mounts) reports a full disk while writing instead.
    if (result != 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
      fail(fmt::format("reserve {} bytes for", bytes), path, errno);
    }
  }
};

}  // namespace

FileSystem& FileSystem::posix() {
  static PosixFileSystem instance;
  return instance;
}

std::string read_file(const stdfs::path& path, uint64_t max_bytes) {
  const Descriptor file = open_or_fail("read", path, O_RDONLY | O_NONBLOCK);
  const uint64_t size = regular_file_size(file, "read", path);
  require<IoError>(size <= max_bytes,
                   "cannot read '{}': it has {} bytes, at most {} are accepted; is it the right file?", path.string(),
                   size, max_bytes);
  std::string content(size, '\0');
  uint64_t filled = 0;
  while (filled < size) {
    const ssize_t got = ::read(file.get(), content.data() + filled, size - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read", path, errno);
    if (got == 0) break;  // another process cut it short meanwhile: what is there is the whole file
    filled += static_cast<uint64_t>(got);
  }
  content.resize(filled);
  return content;
}

void write_file_atomically(FileSystem& fs, const stdfs::path& path, std::string_view content) {
  stdfs::path temporary = path;
  temporary += ".tmp";
  try {
    const auto file = fs.create(temporary, content.size());
    file->write(content.data(), content.size());
    file->sync();
    file->close();
    fs.rename(temporary, path);
  } catch (const Error&) {
    try {
      fs.remove_all(temporary);
    } catch (const Error&) {  // the first error is the one to report; the next write replaces the left-over
    }
    throw;
  }
  fs.sync_directory(parent_of(path));
}

void require_writable_folder(const stdfs::path& path, std::string_view cure) {
  const stdfs::path existing = existing_part(path);
  std::error_code error;
  const auto refuse = [&](const std::string& reason) {
    throw IoError(fmt::format("cannot write to the folder '{}': {}; {}", path.string(), reason, cure));
  };
  if (!stdfs::is_directory(existing, error)) refuse(fmt::format("'{}' is not a folder", existing.string()));
  if (::access(existing.c_str(), W_OK | X_OK) != 0) refuse(std::generic_category().message(errno));
}

uint64_t free_disk_space(const stdfs::path& path) {
  struct statvfs info = {};
  if (::statvfs(existing_part(path).c_str(), &info) != 0) fail("ask for the free space of", path, errno);
  return static_cast<uint64_t>(info.f_bavail) * info.f_frsize;
}

}  // namespace moeut
