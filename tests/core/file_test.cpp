#include "core/file.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "core/mapped_file.h"
#include "tests/fault_file_system.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::ScratchFolder;

std::string written(const stdfs::path& path, std::string_view content, uint64_t preallocate) {
  const auto file = FileSystem::posix().create(path, preallocate);
  file->write(content.data(), content.size());
  file->sync();
  file->close();
  return read_file(path, 1000);
}

TEST_CASE("a file created holds what was written, whatever was reserved or there before") {
  const ScratchFolder folder;
  CHECK(written(folder.path() / "a", "first content", 0) == "first content");
  CHECK(written(folder.path() / "a", "second", 4096) == "second");
  CHECK(written(folder.path() / "empty", "", 10) == "");
}

TEST_CASE("only regular files are written, read and mapped") {
  const ScratchFolder folder;
  FileSystem& fs = FileSystem::posix();
  const stdfs::path pipe = folder.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  for (const stdfs::path& path : {pipe, stdfs::path("/dev/zero"), folder.path()}) {
    CHECK_THROWS_AS(fs.create(path), IoError);
    CHECK_THROWS_AS(read_file(path, 1000), IoError);  // and does not hang on a pipe that nobody writes
    CHECK_THROWS_AS(MappedFile{path}, IoError);
  }
  written(folder.path() / "target", "kept", 0);
  stdfs::create_symlink("target", folder.path() / "link");
  CHECK_THROWS_WITH_AS(fs.create(folder.path() / "link"), doctest::Contains("symbolic link"), IoError);
  CHECK(read_file(folder.path() / "link", 1000) == "kept");
}

TEST_CASE("errors name the file, the operation and the reason") {
  const ScratchFolder folder;
  const stdfs::path missing = folder.path() / "missing" / "file";
  CHECK_THROWS_WITH_AS(read_file(missing, 10), doctest::Contains("missing/file': No such file"), IoError);
  CHECK_THROWS_WITH_AS(FileSystem::posix().create(missing), doctest::Contains("cannot create"), IoError);
  CHECK_THROWS_WITH_AS(FileSystem::posix().rename(missing, folder.path()), doctest::Contains("cannot rename"), IoError);
  CHECK_THROWS_AS(FileSystem::posix().truncate(missing, 0), IoError);
  CHECK_THROWS_AS(FileSystem::posix().sync_directory(missing), IoError);
  written(folder.path() / "large", "0123456789", 0);
  CHECK_THROWS_WITH_AS(read_file(folder.path() / "large", 9), doctest::Contains("10 bytes, at most 9"), IoError);
  CHECK_THROWS_AS(FileSystem::posix().make_directories(folder.path() / "large" / "inner"), IoError);
  CHECK_NOTHROW(FileSystem::posix().remove_all(missing));
}

TEST_CASE("more is not reserved than the disk has") {
  const ScratchFolder folder;
  const uint64_t free = free_disk_space(folder.path() / "not" / "there" / "yet");
  CHECK(free > 0);
  const uint64_t terabytes = uint64_t{1} << 45;
  if (free < terabytes) CHECK_THROWS_AS(FileSystem::posix().create(folder.path() / "huge", terabytes), IoError);
}

TEST_CASE("folders are made with their parents, cut and removed") {
  const ScratchFolder folder;
  FileSystem& fs = FileSystem::posix();
  fs.make_directories(folder.path() / "a" / "b" / "c" / "");
  fs.make_directories(folder.path() / "a" / "b");
  CHECK(stdfs::is_directory(folder.path() / "a" / "b" / "c"));
  written(folder.path() / "a" / "file", "0123456789", 0);
  fs.truncate(folder.path() / "a" / "file", 4);
  {
    const auto file = fs.append(folder.path() / "a" / "file");
    file->write("ab", 2);
    file->close();
  }
  CHECK(read_file(folder.path() / "a" / "file", 100) == "0123ab");
  CHECK_THROWS_WITH_AS(fs.append(folder.path() / "a" / "none"), doctest::Contains("cannot append to"), IoError);
  fs.remove_all(folder.path() / "a");
  CHECK_FALSE(stdfs::exists(folder.path() / "a"));
}

TEST_CASE("a folder that cannot be written is known before anything is made") {
  const ScratchFolder folder;
  written(folder.path() / "file", "kept", 0);
  CHECK_NOTHROW(require_writable_folder(folder.path() / "a" / "b", "give another"));
  CHECK_NOTHROW(require_writable_folder("", "give another"));
  CHECK_FALSE(stdfs::exists(folder.path() / "a"));
  for (const char* inside : {"file", "file/run"}) {
    const std::string place = (folder.path() / inside).string();
    CHECK_THROWS_WITH_AS(require_writable_folder(place, "give another"), doctest::Contains(("'" + place + "'").c_str()),
                         IoError);
    CHECK_THROWS_WITH_AS(require_writable_folder(place, "give another"),
                         doctest::Contains("file' is not a folder; give another"), IoError);
  }
}

TEST_CASE("a mapped file shows its bytes, also after it was moved") {
  const ScratchFolder folder;
  written(folder.path() / "a", "mapped", 0);
  written(folder.path() / "empty", "", 0);
  MappedFile first(folder.path() / "a");
  MappedFile second(folder.path() / "empty");
  CHECK(second.bytes().empty());
  second = std::move(first);
  const auto bytes = second.bytes();
  CHECK(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()) == "mapped");
}

TEST_CASE("an atomic write leaves the old or the new content, wherever it is disturbed") {
  using testing::Fault;
  using testing::FaultFileSystem;
  for (const Fault fault : {Fault::kOnce, Fault::kForever, Fault::kDie}) {
    for (uint64_t operation = 0;; ++operation) {
      const ScratchFolder folder;
      const stdfs::path path = folder.path() / "file";
      written(path, "old", 0);
      FaultFileSystem fs(folder.path(), operation, fault);
      bool done = false;
      try {
        write_file_atomically(fs, path, "new content");
        done = true;
      } catch (const IoError&) {
      } catch (const testing::ProcessDied&) {
      }
      const std::string now = read_file(path, 100);
      CHECK((now == "new content" || (!done && now == "old")));
      for (uint64_t seed = 0; seed < 8; ++seed) {
        fs.cut_power(seed == 0 ? FaultFileSystem::Forgets::kAsMuchAsPossible : FaultFileSystem::Forgets::kAnything,
                     seed);
        const std::string after = read_file(path, 100);
        CHECK((after == "new content" || (!done && after == "old")));
      }
      if (!fs.failed()) break;
    }
  }
}

}  // namespace
}  // namespace moeut
