#include "trainer/folder_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "core/check.h"

namespace moeut {

FolderLock::FolderLock(const std::filesystem::path& folder) {
  const std::string path = (folder / "lock").string();
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
  require<IoError>(fd_ >= 0, "cannot open '{}': {}; choose a run.dir that this user can write", path,
                   std::generic_category().message(errno));
  // A file system that knows no locks lets everybody pass.
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(fd_);
  throw IoError(
      fmt::format("'{}' is in use: another process trains in this run folder; wait for it or choose another run.dir",
                  folder.string()));
}

FolderLock::~FolderLock() {
  ::close(fd_);
}

}  // namespace moeut
