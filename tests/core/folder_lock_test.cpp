#include "core/folder_lock.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/scratch_folder.h"

using namespace moeut;

TEST_CASE("a locked folder turns others away until the lock goes") {
  const testing::ScratchFolder folder;
  {
    const FolderLock lock(folder.path(), "wait for it");
    // A second open file of the same process is as foreign to flock as another process.
    CHECK_THROWS_WITH_AS(FolderLock(folder.path(), "wait for it"), doctest::Contains("is in use: wait for it"),
                         IoError);
  }
  CHECK_NOTHROW(FolderLock(folder.path(), ""));
  CHECK_THROWS_WITH_AS(FolderLock(folder.path() / "missing", ""), doctest::Contains("choose a folder"), IoError);
}
