// What a checkpoint promises: bit for bit what was saved, any damage noticed, the previous one taken instead.
#include "trainer/checkpoint.h"

#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "core/check.h"
#include "tests/scratch_folder.h"
#include "tests/trainer/tiny_checkpoint.h"
#include "trainer/resume.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::ScratchFolder;
using testing::TinyCheckpoint;

void overwrite(const stdfs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

std::vector<stdfs::path> files_of(const stdfs::path& folder) {
  std::vector<stdfs::path> files;
  for (const auto& entry : stdfs::directory_iterator(folder)) files.push_back(entry.path());
  return files;
}

TEST_CASE("a checkpoint holds what was saved") {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path());
  const TinyCheckpoint tiny(60);
  const stdfs::path folder = store.save(tiny.content());
  CHECK(folder == run.path() / "checkpoints" / "step-00000060");
  CHECK(read_file(run.path() / "checkpoints" / "LATEST", 100) == "step-00000060\n");
  const LoadedCheckpoint loaded = LoadedCheckpoint::open(folder);
  CHECK(tiny.difference(loaded) == "");
  CHECK(loaded.manifest().config_hash == "config");
  CHECK(loaded.manifest().tokenizer_sha256 == "tokenizer");
  CHECK(loaded.manifest().data_fingerprint == "data");
  uint64_t bytes = 0;
  for (const auto& file : loaded.manifest().files) bytes += file.bytes;
  CHECK(bytes == checkpoint_bytes(tiny.content()));
}

TEST_CASE("two saves of the same content have the same bytes in every file") {
  const ScratchFolder a, b;
  const stdfs::path first = CheckpointStore(FileSystem::posix(), a.path()).save(TinyCheckpoint(7).content());
  const stdfs::path second = CheckpointStore(FileSystem::posix(), b.path()).save(TinyCheckpoint(7).content());
  const auto files = files_of(first);
  CHECK(files.size() == 5);
  for (const stdfs::path& file : files) CHECK(read_file(file, 1 << 20) == read_file(second / file.filename(), 1 << 20));
}

TEST_CASE("retention goes by the number of the step and keeps the one just saved") {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path(), {.keep_last = 2});
  for (const uint64_t step : {9, 10, 99999999, 100000000}) store.save(TinyCheckpoint(step).content());
  CHECK(store.steps() == std::vector<uint64_t>{99999999, 100000000});
  store.save(TinyCheckpoint(20).content());  // as after resuming from an older checkpoint
  CHECK(store.steps() == std::vector<uint64_t>{20, 99999999, 100000000});
  CheckpointStore all(FileSystem::posix(), run.path(), {.keep_last = 0});
  all.save(TinyCheckpoint(21).content());
  CHECK(all.steps().size() == 4);
}

TEST_CASE("a step saved again replaces the first") {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path());
  store.save(TinyCheckpoint(5, 1).content());
  store.save(TinyCheckpoint(5, 2).content());
  CHECK(TinyCheckpoint(5, 2).difference(*store.newest_verified()) == "");
  CHECK(files_of(store.folder()).size() == 2);  // step-00000005 and LATEST
}

TEST_CASE("newer checkpoints set aside are neither resumed from nor removed") {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path());
  for (const uint64_t step : {10, 20, 30}) store.save(TinyCheckpoint(step).content());
  const auto aside = store.set_aside_newer_than(10);
  CHECK(aside.size() == 2);
  CHECK(store.newest_verified()->step() == 10);
  CHECK(read_file(store.folder() / "LATEST", 100) == "step-00000010\n");
  store.save(TinyCheckpoint(30, 2).content());
  store.set_aside_newer_than(std::nullopt);
  CHECK(store.steps().empty());
  CHECK(stdfs::exists(store.folder() / "step-00000030.aside-1"));
  CHECK(stdfs::exists(store.folder() / "step-00000030.aside-2"));
  CHECK_FALSE(stdfs::exists(store.folder() / "LATEST"));
}

TEST_CASE("left-overs of an interrupted save are removed by the next") {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path());
  stdfs::create_directories(store.folder() / "step-00000003.tmp" / "inner");
  overwrite(store.folder() / "step-00000003.tmp" / "model.safetensors", "half");
  CHECK(store.steps().empty());
  store.save(TinyCheckpoint(4).content());
  CHECK_FALSE(stdfs::exists(store.folder() / "step-00000003.tmp"));
}

/// Runs `damage` on every file of the newer of two checkpoints; each time the older one must be taken, and the reason
/// given.
template <class F>
void expect_fall_back(F&& damage) {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path());
  store.save(TinyCheckpoint(1).content());
  const stdfs::path newer = store.save(TinyCheckpoint(2).content());
  for (const stdfs::path& file : files_of(newer)) {
    const std::string original = read_file(file, 1 << 20);
    const auto check = [&](const std::string& damaged, size_t at) {
      overwrite(file, damaged);
      std::vector<std::string> rejected;
      const auto loaded = store.newest_verified(&rejected);
      INFO(file.string() << " damaged at byte " << at);
      REQUIRE(loaded.has_value());
      REQUIRE(loaded->step() == 1);
      REQUIRE(rejected.size() == 1);
      REQUIRE(rejected[0].find("step-00000002") != std::string::npos);
    };
    damage(original, check);
    overwrite(file, original);
  }
  CHECK(store.newest_verified()->step() == 2);
}

TEST_CASE("every flipped byte of a checkpoint is noticed") {
  expect_fall_back([](const std::string& original, const auto& check) {
    for (size_t at = 0; at < original.size(); ++at) {
      for (const char mask : {'\x01', '\x20'}) {
        std::string damaged = original;
        damaged[at] = static_cast<char>(damaged[at] ^ mask);
        check(damaged, at);
      }
    }
  });
}

TEST_CASE("every truncation and an appended byte are noticed") {
  expect_fall_back([](const std::string& original, const auto& check) {
    for (size_t length = 0; length < original.size(); ++length) check(original.substr(0, length), length);
    check(original + '\0', original.size());
    check(original + '\n', original.size());
  });
}

TEST_CASE("a missing file is noticed") {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path());
  for (const stdfs::path& file : files_of(store.save(TinyCheckpoint(2).content()))) {
    const std::string original = read_file(file, 1 << 20);
    stdfs::remove(file);
    CHECK_FALSE(store.newest_verified().has_value());
    stdfs::create_directory(file);
    CHECK_FALSE(store.newest_verified().has_value());
    stdfs::remove(file);
    overwrite(file, original);
  }
  stdfs::rename(store.folder_of(2), store.folder_of(3));
  std::vector<std::string> rejected;
  CHECK_FALSE(store.newest_verified(&rejected).has_value());
  CHECK(rejected.at(0).find("holds a checkpoint of step 2") != std::string::npos);
}

TEST_CASE("--resume: auto, must, no and paths") {
  const ScratchFolder run;
  CheckpointStore store(FileSystem::posix(), run.path());
  CHECK_FALSE(decide_resume(store, "auto").checkpoint.has_value());
  CHECK_THROWS_AS(decide_resume(store, "must"), IoError);
  store.save(TinyCheckpoint(1).content());
  store.save(TinyCheckpoint(2).content());
  overwrite(store.folder_of(2) / "state.json", "{}");

  const ResumeDecision automatic = decide_resume(store, "auto");
  CHECK(automatic.checkpoint->step() == 1);
  REQUIRE(automatic.messages.size() == 2);
  CHECK(automatic.messages[0].find("state.json") != std::string::npos);
  CHECK(automatic.messages[1].find("step 1") != std::string::npos);
  CHECK(decide_resume(store, "must").checkpoint->step() == 1);
  CHECK_FALSE(decide_resume(store, "no").checkpoint.has_value());
  CHECK(decide_resume(store, run.path().string()).checkpoint->step() == 1);
  CHECK(decide_resume(store, store.folder_of(1).string()).checkpoint->step() == 1);
  CHECK_THROWS_AS(decide_resume(store, store.folder_of(2).string()),
                  IoError);  // asked for by name: no other one is taken
  CHECK_THROWS_WITH_AS(decide_resume(store, "atuo"), doctest::Contains("neither auto, must or no"), IoError);

  overwrite(store.folder_of(1) / "state.json", "{}");
  CHECK(decide_resume(store, "auto").messages.size() == 3);
  CHECK_THROWS_WITH_AS(decide_resume(store, "must"), doctest::Contains("step-00000001"), IoError);
}

/// In a forked child: saves steps 1, 2, … and tells each finished one through the pipe, until it is killed.
[[noreturn]] void save_for_ever(const stdfs::path& run, int pipe) {
  CheckpointStore store(FileSystem::posix(), run, {.keep_last = 2});
  const auto newest = store.newest_verified();
  for (uint64_t step = newest ? newest->step() : 1;; ++step) {  // the first one replaces the newest
    store.save(TinyCheckpoint(step).content());
    if (::write(pipe, &step, sizeof step) != sizeof step) ::_exit(1);
  }
}

TEST_CASE("a process killed at any moment leaves the last finished checkpoint") {
  const ScratchFolder run;
  const CheckpointStore store(FileSystem::posix(), run.path());
  std::mt19937 random(1);
  uint64_t finished = 0;
  for (int round = 0; round < 20; ++round) {
    int pipe[2];
    REQUIRE(::pipe(pipe) == 0);
    const pid_t child = ::fork();
    if (child == 0) save_for_ever(run.path(), pipe[1]);
    REQUIRE(child > 0);
    ::close(pipe[1]);
    ::usleep(2000 + random() % 60000);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    for (uint64_t step = 0; ::read(pipe[0], &step, sizeof step) == sizeof step;) finished = step;
    ::close(pipe[0]);
    const auto loaded = store.newest_verified();
    if (finished == 0 && !loaded) continue;
    REQUIRE(loaded.has_value());
    CHECK(loaded->step() >= finished);
    CHECK(TinyCheckpoint(loaded->step()).difference(*loaded) == "");
  }
  MESSAGE("20 kills; the last finished step was " << finished);
  CHECK(finished > 0);
}

}  // namespace
}  // namespace moeut
