// A save is disturbed at each of its operations in turn, as SQLite tests itself; whatever happens, what was durable can
// be loaded.
#include <doctest/doctest.h>

#include "core/check.h"
#include "tests/fault_file_system.h"
#include "tests/scratch_folder.h"
#include "tests/trainer/tiny_checkpoint.h"
#include "trainer/checkpoint.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::Fault;
using testing::FaultFileSystem;
using testing::ProcessDied;
using testing::ScratchFolder;
using testing::TinyCheckpoint;
using Forgets = FaultFileSystem::Forgets;

constexpr RetentionOptions kRetention{.keep_last = 2};

/// What is on the disk before the disturbed save, and what is saved: a new step, or an existing one again.
struct Scenario {
  std::vector<uint64_t> before;
  uint64_t step;
  bool left_overs;
};

const Scenario kScenarios[] = {{{}, 1, false}, {{1}, 2, false}, {{1, 2}, 3, true}, {{1, 2}, 2, false}, {{2}, 2, true}};

void prepare(const stdfs::path& run, const Scenario& scenario) {
  CheckpointStore store(FileSystem::posix(), run, kRetention);
  for (const uint64_t step : scenario.before) store.save(TinyCheckpoint(step).content());
  if (!scenario.left_overs) return;
  for (const char* name : {"step-00000002.tmp", "step-00000003.tmp"}) {
    stdfs::create_directories(store.folder() / name);
    write_file_atomically(FileSystem::posix(), store.folder() / name / "model.safetensors", "half a file");
  }
}

/// The newest checkpoint must be the saved one (`done`), or either that or the one that was the newest before.
void check_state(const stdfs::path& run, const Scenario& scenario, bool done) {
  const CheckpointStore store(FileSystem::posix(), run, kRetention);
  const auto loaded = store.newest_verified();
  if (!done && scenario.before.empty() && !loaded) return;
  REQUIRE(loaded.has_value());
  const bool is_new = TinyCheckpoint(scenario.step, 1).difference(*loaded).empty();
  if (done) {
    REQUIRE(is_new);
  } else if (!is_new) {
    REQUIRE(!scenario.before.empty());
    REQUIRE(TinyCheckpoint(scenario.before.back()).difference(*loaded) == "");
  }
  if (stdfs::exists(store.folder() / "LATEST")) {  // names a whole checkpoint, always
    std::string latest = read_file(store.folder() / "LATEST", 100);
    REQUIRE(latest.ends_with('\n'));
    latest.pop_back();
    // Between the two renames of a replacement the folder of this name is missing; the loader knows its other name.
    if (stdfs::exists(store.folder() / latest)) REQUIRE_NOTHROW(LoadedCheckpoint::open(store.folder() / latest));
  }
}

/// The next save must succeed and leave nothing but checkpoints.
void check_recovery(const stdfs::path& run) {
  CheckpointStore store(FileSystem::posix(), run, kRetention);
  std::vector<std::string> warnings;
  store.save(TinyCheckpoint(9).content(), &warnings);
  REQUIRE(warnings.empty());
  REQUIRE(store.newest_verified()->step() == 9);
  for (const auto& entry : stdfs::directory_iterator(store.folder())) {
    const std::string name = entry.path().filename();
    INFO(name);
    REQUIRE((name == "LATEST" || name == "LATEST.tmp" || name.size() == std::string("step-00000009").size()));
  }
}

/// One disturbed save; false once no operation was left to fail.
bool disturb(const Scenario& scenario, Fault fault, uint64_t operation) {
  const ScratchFolder run;
  prepare(run.path(), scenario);
  FaultFileSystem fs(run.path(), operation, fault);
  bool done = false;
  try {
    CheckpointStore(fs, run.path(), kRetention).save(TinyCheckpoint(scenario.step, 1).content());
    done = true;
  } catch (const IoError&) {
  } catch (const ProcessDied&) {
  }
  INFO("operation " << operation << " of a save of step " << scenario.step);
  check_state(run.path(), scenario, done);
  fs.cut_power(Forgets::kAsMuchAsPossible, 0);
  check_state(run.path(), scenario, done);
  fs.cut_power(Forgets::kOnlyData, 1);
  check_state(run.path(), scenario, done);
  for (uint64_t seed = 0; seed < 12; ++seed) {
    fs.cut_power(Forgets::kAnything, seed);
    check_state(run.path(), scenario, done);
  }
  check_recovery(run.path());
  return fs.failed();
}

void disturb_all(Fault fault) {
  uint64_t disturbed = 0;
  for (const Scenario& scenario : kScenarios) {
    uint64_t operation = 0;
    while (disturb(scenario, fault, operation)) ++operation;
    CHECK(operation > 25);  // five files of four operations and more, folders, renames
    disturbed += operation;
  }
  MESSAGE(disturbed << " disturbed saves");
}

TEST_CASE("a save in which one operation fails") {
  disturb_all(Fault::kOnce);
}

TEST_CASE("a save in which an operation and all later ones fail") {
  disturb_all(Fault::kForever);
}

TEST_CASE("a save in which the process dies") {
  disturb_all(Fault::kDie);
}

TEST_CASE("the model of a disk forgets what was not synced") {
  const ScratchFolder root;
  FaultFileSystem fs(root.path());
  const auto file = fs.create(root.path() / "synced", 0);
  file->write("abc", 3);
  file->sync();
  file->write("def", 3);
  fs.cut_power(Forgets::kAsMuchAsPossible, 0);
  CHECK_FALSE(stdfs::exists(root.path() / "synced"));  // its name was not synced
  fs.sync_directory(root.path());
  fs.cut_power(Forgets::kAsMuchAsPossible, 0);
  CHECK(read_file(root.path() / "synced", 100) == "abc");
}

TEST_CASE("a save that does not sync is caught by this test's own means") {
  // The same protocol without any sync: the power cut must lose the checkpoint, or the tests above prove nothing.
  const ScratchFolder run;
  FaultFileSystem fs(run.path());
  fs.make_directories(run.path() / "checkpoints");
  const auto file = fs.create(run.path() / "checkpoints" / "a.tmp", 0);
  file->write("content", 7);
  fs.rename(run.path() / "checkpoints" / "a.tmp", run.path() / "checkpoints" / "a");
  fs.cut_power(Forgets::kOnlyData, 1);
  CHECK(read_file(run.path() / "checkpoints" / "a", 100) != "content");
}

}  // namespace
}  // namespace moeut
