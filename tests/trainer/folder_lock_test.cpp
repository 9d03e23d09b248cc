// One process at a time in a run folder.
#include "trainer/folder_lock.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/scratch_folder.h"

using namespace moeut;

TEST_CASE("a locked folder turns others away until the lock goes") {
  const testing::ScratchFolder folder;
  {
    const FolderLock lock(folder.path());
    // A second open file of the same process is as foreign to flock as another process.
    CHECK_THROWS_WITH_AS(FolderLock(folder.path()), doctest::Contains("another process trains in this run folder"),
                         IoError);
  }
  CHECK_NOTHROW(FolderLock(folder.path()));
  CHECK_THROWS_WITH_AS(FolderLock(folder.path() / "missing"), doctest::Contains("choose a run.dir"), IoError);
}
