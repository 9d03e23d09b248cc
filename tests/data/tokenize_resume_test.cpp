// A tokenisation that is killed, stopped or fails, and goes on to the same bytes.
#include <doctest/doctest.h>

#include <cstdlib>
#include <map>

#include "core/error.h"
#include "data/tokenize.h"
#include "data/verify.h"
#include "tests/data/dying_file_system.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::DyingFileSystem;
using testing::ScratchFolder;
using testing::write_text;

/// All files of a folder by relative name.
std::map<std::string, std::string> contents(const stdfs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : stdfs::recursive_directory_iterator(folder))
    if (entry.is_regular_file())
      files[stdfs::relative(entry.path(), folder).string()] = testing::read_text(entry.path());
  return files;
}

/// Three inputs and a way to tokenize them whose every batch is noted: many pieces, two parts, several shards.
struct Corpus {
  Corpus() : tokenizer(Tokenizer::load(testing::small_tokenizer(folder.path()))) {
    for (uint32_t i = 0; i < 3; ++i)
      inputs.push_back(
          write_text(folder.path() / ("in-" + std::to_string(i) + ".txt"), testing::prose(300, i) + "\n\n"));
    options.reader = {.unit = DocumentUnit::kLine, .max_document_bytes = 64};
    options.validation_ratio = 0.3;
    options.shard_tokens = 300;
    options.batch_bytes = 700;
    options.journal_seconds = 0;
    options.notice = [this](const std::string& line) { notices += line + "\n"; };
    run("whole");
    whole = contents(folder.path() / "whole");
    REQUIRE(whole.size() > 5);
  }

  std::vector<Manifest> run(const std::string& output) {
    notices.clear();
    return tokenize(tokenizer, inputs, folder.path() / output, options);
  }
  bool is_whole(const std::string& output) const { return contents(folder.path() / output) == whole; }
  /// Stops when `batches` have been taken.
  void stop_after(const std::string& output, int batches) {
    options.stop = [&batches] { return --batches == 0; };
    REQUIRE(run(output).empty());
    options.stop = nullptr;
  }

  ScratchFolder folder;
  Tokenizer tokenizer;
  std::vector<stdfs::path> inputs;
  TokenizeOptions options;
  std::string notices;
  std::map<std::string, std::string> whole;
};

/// False if the process was killed.
bool survives(Corpus& corpus, const std::string& output, FileSystem& fs) {
  corpus.options.file_system = &fs;
  try {
    corpus.run(output);
  } catch (const testing::ProcessDied&) {
  }
  corpus.options.file_system = &FileSystem::posix();
  return stdfs::exists(corpus.folder.path() / output / "validation" / kManifestName);
}

TEST_CASE("killed at any operation on the disk, the same call goes on to the same bytes") {
  Corpus corpus;
  DyingFileSystem undisturbed(UINT64_MAX);
  REQUIRE(survives(corpus, "undisturbed", undisturbed));
  CHECK(undisturbed.operations() > 200);
  const uint64_t step = std::getenv("MOEUT_FULL_TESTS") != nullptr ? 1 : 7;
  uint64_t resumed = 0;
  for (uint64_t dies_at = 0; dies_at < undisturbed.operations(); dies_at += step) {
    CAPTURE(dies_at);
    const std::string output = "out-" + std::to_string(dies_at);
    DyingFileSystem fs(dies_at);
    if (!survives(corpus, output, fs)) {
      corpus.options.threads = static_cast<int>(dies_at % 3) + 1;
      DyingFileSystem second(UINT64_MAX);  // spares the syncs
      REQUIRE(survives(corpus, output, second));
      resumed += corpus.notices.starts_with("resuming");
    }
    stdfs::remove_all(corpus.folder.path() / output / ".moeut-data-partial");  // killed while it was being removed
    CHECK(corpus.is_whole(output));
  }
  CHECK(resumed > undisturbed.operations() / step / 2);
}

TEST_CASE("old shards that are being replaced: killed at any operation, one whole set is there in the end") {
  Corpus corpus;
  corpus.options.overwrite = true;
  const auto old = write_text(corpus.folder.path() / "old.txt", testing::prose(2000, 9));
  const auto begin = [&](const std::string& output) {
    corpus.options.file_system = &FileSystem::posix();
    auto options = corpus.options;
    options.validation_ratio = 0;
    options.shard_tokens = 500;
    tokenize(corpus.tokenizer, {old}, corpus.folder.path() / output, options);
  };
  begin("undisturbed");
  DyingFileSystem undisturbed(UINT64_MAX);
  REQUIRE(survives(corpus, "undisturbed", undisturbed));
  for (uint64_t dies_at = undisturbed.operations() - 30; dies_at < undisturbed.operations(); dies_at += 3) {
    CAPTURE(dies_at);
    begin("out");
    DyingFileSystem fs(dies_at);
    if (!survives(corpus, "out", fs)) REQUIRE(corpus.run("out").size() == 2);
    stdfs::remove_all(corpus.folder.path() / "out" / ".moeut-data-partial");
    CHECK(corpus.is_whole("out"));
    stdfs::remove_all(corpus.folder.path() / "out");
  }
}

TEST_CASE("stopped after any batch it goes on, also twice and with another number of threads") {
  Corpus corpus;
  for (const int batches : {1, 4, 9}) {
    corpus.options.threads = batches % 3 + 1;
    corpus.stop_after("out", batches);
    CHECK(stdfs::exists(corpus.folder.path() / "out"));
    CHECK_FALSE(stdfs::exists(corpus.folder.path() / "out" / "train"));
    corpus.stop_after("out", 2);
    CHECK(corpus.notices.starts_with("resuming in '"));
    const auto manifests = corpus.run("out");
    CHECK(manifests.at(0).empty_documents + manifests.at(1).empty_documents == 6);
    CHECK(corpus.is_whole("out"));
    CHECK_FALSE(stdfs::exists(corpus.folder.path() / "out" / ".moeut-data-partial"));
    stdfs::remove_all(corpus.folder.path() / "out");
  }
}

TEST_CASE("other work starts anew and says what differs") {
  Corpus corpus;
  const auto anew = [&](const char* why, const auto& change) {
    corpus.stop_after("out", 11);  // in the second input
    const auto inputs = corpus.inputs;
    const TokenizeOptions options = corpus.options;
    change();
    CHECK(corpus.run("out").size() == 2);
    CHECK(corpus.notices.find("starting anew") == 0);
    CHECK_MESSAGE(corpus.notices.find(why) != std::string::npos, corpus.notices);
    CHECK(verify_shards({corpus.folder.path() / "out"}).defects.empty());
    stdfs::remove_all(corpus.folder.path() / "out");
    corpus.inputs = inputs;
    corpus.options = options;
  };
  const auto use_eos = [&] { corpus.options.separator = {Separator::Kind::kEos, ""}; };
  anew("--separator was [\"none\",\"\"] and is [\"eos\",\"\"]", use_eos);
  anew("--shard-tokens was 300 and is 2000", [&] { corpus.options.shard_tokens = 2000; });
  anew("--validation-ratio", [&] { corpus.options.validation_ratio = 0.4; });
  anew("in-0.txt' is not there or not in its place", [&] { std::swap(corpus.inputs[0], corpus.inputs[1]); });
  anew("in-0.txt' has changed", [&] { write_text(corpus.inputs[0], testing::prose(300, 7)); });
  anew("journal.json' is damaged",
       [&] { testing::flip_bit(corpus.folder.path() / "out/.moeut-data-partial/journal.json", 8 * 150); });
  anew("spool' has", [&] {
    for (const auto& entry : stdfs::directory_iterator(corpus.folder.path() / "out/.moeut-data-partial/train"))
      if (entry.path().extension() == ".spool") stdfs::resize_file(entry.path(), 1);
  });
}

TEST_CASE("an input that was mended behind the place reached goes on; before it, the work is refused and kept") {
  Corpus corpus;
  const std::string good = testing::read_text(corpus.inputs[2]);
  write_text(corpus.inputs[2], good.substr(0, good.find('\n', good.size() / 2) + 1) + "\xFF\n");
  CHECK_THROWS_WITH_AS(corpus.run("out"), doctest::Contains("what is done is kept: the same command goes on"), IoError);
  write_text(corpus.inputs[2], "Other words.\n" + good);
  CHECK_THROWS_WITH_AS(corpus.run("out"), doctest::Contains("--no-resume"), IoError);
  write_text(corpus.inputs[2], good);
  corpus.run("out");
  CHECK(corpus.notices.starts_with("resuming in '"));
  CHECK(corpus.is_whole("out"));
}

TEST_CASE("starting anew on request, and what is left of it") {
  Corpus corpus;
  corpus.stop_after("out", 3);
  corpus.options.resume = false;
  corpus.run("out");
  CHECK(corpus.notices.empty());
  CHECK(corpus.is_whole("out"));
  corpus.options.resume = true;
  CHECK_THROWS_WITH_AS(corpus.run("out"), doctest::Contains("already holds shards"), IoError);
}

TEST_CASE("two at once on one output: the second is refused") {
  Corpus corpus;
  const TokenizeOptions other = corpus.options;
  int calls = 0;
  corpus.options.stop = [&] {
    if (++calls == 2)
      CHECK_THROWS_WITH_AS(tokenize(corpus.tokenizer, corpus.inputs, corpus.folder.path() / "out", other),
                           doctest::Contains("another process makes shards there"), IoError);
    return false;
  };
  corpus.run("out");
  CHECK(corpus.is_whole("out"));
}

}  // namespace
}  // namespace moeut
