#include "core/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/check.h"

namespace moeut {
namespace {

/// False if the process that held the lock has removed the file, or the folder, since it was opened.
bool still_named(int fd, const std::string& path) {
  struct stat opened = {}, named = {};
  return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &named) == 0 && opened.st_ino == named.st_ino;
}

}  // namespace

FolderLock::FolderLock(const std::filesystem::path& folder, std::string_view who_and_cure) {
  const std::string path = (folder / "lock").string();
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  require<IoError>(fd_ >= 0, "cannot open '{}': {}; choose a folder that this user can write", path,
                   std::generic_category().message(errno));
  // A file system that knows no locks lets everybody pass.
  const bool held = ::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (!held && still_named(fd_, path)) return;
  ::close(fd_);
  throw IoError(fmt::format("'{}' is in use: {}", folder.string(), who_and_cure));
}

FolderLock::~FolderLock() {
  ::close(fd_);
}

}  // namespace moeut
