// Saves in the background, their failures, and which checkpoints stay.
#include "trainer/async_saver.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "core/check.h"
#include "tests/fault_file_system.h"
#include "tests/scratch_folder.h"
#include "tests/trainer/tiny_checkpoint.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::Fault;
using testing::FaultFileSystem;
using testing::ProcessDied;
using testing::ScratchFolder;
using testing::TinyCheckpoint;

TEST_CASE("a save in the background writes the bytes of one in the foreground, whatever becomes of the weights") {
  const ScratchFolder folder;
  CheckpointStore here(FileSystem::posix(), folder.path() / "here"),
      there(FileSystem::posix(), folder.path() / "there");
  here.save(TinyCheckpoint(5).content());
  AsyncSaver saver(there);
  {
    auto weights = std::make_unique<TinyCheckpoint>(5);
    saver.begin(copy_of(weights->content()));
  }  // they are gone
  CHECK(saver.under_way());
  const auto saved = saver.wait();
  REQUIRE(saved.has_value());
  CHECK(saved->folder == there.folder_of(5));
  CHECK_FALSE(saver.under_way());
  CHECK_FALSE(saver.wait().has_value());
  for (const char* file : {"model.safetensors", "optimizer.safetensors", "state.json", "config.yaml", "manifest.json"})
    CHECK(read_file(here.folder_of(5) / file, 1 << 20) == read_file(there.folder_of(5) / file, 1 << 20));
}

TEST_CASE("a failure in the background shows when one looks, and the next save may come") {
  for (const Fault fault : {Fault::kOnce, Fault::kDie}) {
    for (uint64_t operation = 0; operation < 30; operation += 7) {
      const ScratchFolder run;
      CheckpointStore(FileSystem::posix(), run.path()).save(TinyCheckpoint(1).content());
      FaultFileSystem fs(run.path(), operation, fault);
      CheckpointStore store(fs, run.path());
      AsyncSaver saver(store);
      saver.begin(copy_of(TinyCheckpoint(2).content()));
      CHECK_THROWS_AS(saver.begin(copy_of(TinyCheckpoint(3).content())), Error);  // one at a time
      bool failed = false;
      try {
        while (saver.under_way()) saver.take_if_done();
      } catch (const IoError&) {
        failed = true;
      } catch (const ProcessDied&) {
        failed = true;
      }
      CHECK_FALSE(saver.under_way());
      const auto newest = CheckpointStore(FileSystem::posix(), run.path()).newest_verified();
      REQUIRE(newest.has_value());
      CHECK((newest->step() == 2 || (failed && newest->step() == 1)));
      if (fault == Fault::kDie) continue;
      saver.begin(copy_of(TinyCheckpoint(3).content()));
      CHECK(saver.wait().has_value());
      CHECK(store.newest_verified()->step() == 3);
    }
  }
}

/// What the three rules keep, said once more.
std::set<uint64_t> kept_by(const RetentionOptions& rules, const std::map<uint64_t, std::optional<double>>& saved,
                           uint64_t newest) {
  std::set<uint64_t> kept{newest};
  std::vector<uint64_t> steps;
  for (const auto& [step, loss] : saved) steps.push_back(step);
  std::vector<std::pair<double, uint64_t>> losses;
  for (size_t i = 0; i < steps.size(); ++i) {
    if (steps.size() - i <= rules.keep_last) kept.insert(steps[i]);
    if (rules.keep_every > 0 && steps[i] % rules.keep_every == 0) kept.insert(steps[i]);
    if (saved.at(steps[i])) losses.push_back({*saved.at(steps[i]), UINT64_MAX - steps[i]});
  }
  std::sort(losses.begin(), losses.end());
  for (size_t i = 0; i < std::min<size_t>(rules.keep_best, losses.size()); ++i)
    kept.insert(UINT64_MAX - losses[i].second);
  return kept;
}

TEST_CASE("whatever is saved in whatever order, the newest, the milestones and the best stay, and nothing else") {
  std::mt19937 random(7);
  const auto below = [&](uint64_t n) { return random() % n; };
  for (int round = 0; round < 12; ++round) {
    const ScratchFolder run;
    const RetentionOptions rules{.keep_last = 1 + below(3), .keep_every = below(2) * 10, .keep_best = below(3)};
    CheckpointStore store(FileSystem::posix(), run.path(), rules);
    std::map<uint64_t, std::optional<double>> there;  // step -> validation loss
    for (int i = 0; i < 12; ++i) {
      const uint64_t step = 5 * (1 + below(12)) * (below(4) == 0 ? 200'000'000 : 1);  // nine digits after eight
      const TinyCheckpoint checkpoint(step);
      CheckpointContent content = checkpoint.content();
      if (below(3) > 0) content.validation_loss = static_cast<double>(below(4)) / 4;  // equal ones, too
      std::vector<std::string> warnings;
      store.save(content, &warnings);
      CHECK(warnings.empty());
      there[step] = content.validation_loss;
      const auto kept = kept_by(rules, there, step);
      std::erase_if(there, [&](const auto& entry) { return !kept.contains(entry.first); });
      const auto steps = store.steps();
      CHECK((std::set<uint64_t>(steps.begin(), steps.end()) == kept));
      CHECK(LoadedCheckpoint::open(store.folder_of(step)).manifest().validation_loss == content.validation_loss);
    }
  }
}

}  // namespace
}  // namespace moeut
