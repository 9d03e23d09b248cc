#include "data/spool.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/data/text_files.h"
#include "tests/fault_file_system.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::FaultFileSystem;
using testing::read_text;
using testing::ScratchFolder;

std::string block(int i) {
  return std::string(100'000, static_cast<char>('a' + i));
}

/// Appends blocks [from, 6); after every second one the number of bytes is noted beside the spool.
void write_blocks(Spool& spool, int from, const stdfs::path& folder, FileSystem& fs) {
  for (int i = from; i < 6; ++i) {
    spool.append(block(i).data(), block(i).size());
    if (i % 2 == 0) continue;
    spool.sync();
    fs.sync_directory(folder);
    write_file_atomically(fs, folder / "note", std::to_string(spool.bytes()));
  }
}

TEST_CASE("a spool that was cut goes on from there, before and after its buffer was written") {
  const ScratchFolder folder;
  for (const size_t cut : {size_t{50'000}, size_t{100'000}, size_t{350'000}, size_t{0}}) {
    Spool spool(folder.path() / "spool");
    std::string expected;
    for (int i = 0; i < 4; ++i) {
      spool.append(block(i).data(), block(i).size());
      expected += block(i);
    }
    spool.cut(cut);
    CHECK(spool.bytes() == cut);
    spool.append("tail", 4);
    spool.close();
    CHECK((read_text(folder.path() / "spool") == expected.substr(0, cut) + "tail"));
  }
}

TEST_CASE("a spool goes on from what was noted, whatever a power cut at any operation leaves") {
  std::string whole;
  for (int i = 0; i < 6; ++i) whole += block(i);
  bool died = true;
  uint64_t fail_at = 0, resumed = 0;
  for (; died; ++fail_at) {
    CAPTURE(fail_at);
    const ScratchFolder folder;
    FaultFileSystem fs(folder.path(), fail_at, testing::Fault::kDie);
    try {
      Spool spool(folder.path() / "spool", fs);
      write_blocks(spool, 0, folder.path(), fs);
      died = false;
    } catch (const testing::ProcessDied&) {
    }
    const auto forgets =
        fail_at % 2 == 0 ? FaultFileSystem::Forgets::kAsMuchAsPossible : FaultFileSystem::Forgets::kAnything;
    fs.cut_power(forgets, fail_at);
    if (!stdfs::exists(folder.path() / "note")) continue;
    const uint64_t noted = std::stoull(read_text(folder.path() / "note"));
    Spool spool(folder.path() / "spool", noted);
    write_blocks(spool, static_cast<int>(noted / 100'000), folder.path(), FileSystem::posix());
    spool.close();
    ++resumed;
    CHECK((read_text(folder.path() / "spool") == whole));
  }
  CHECK(fail_at > 20);
  CHECK(resumed > 10);
}

TEST_CASE("a spool that lost bytes is refused") {
  const ScratchFolder folder;
  const auto path = testing::write_text(folder.path() / "spool", "0123");
  CHECK_THROWS_WITH_AS(Spool(path, 5), doctest::Contains("has 4 bytes and should have 5"), IoError);
  CHECK_THROWS_AS(Spool(folder.path() / "none", 1), IoError);
}

}  // namespace
}  // namespace moeut
