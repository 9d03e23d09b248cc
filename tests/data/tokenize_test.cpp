#include "data/tokenize.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "core/error.h"
#include "data/dataset.h"
#include "data/ordered_pipeline.h"
#include "data/shard_folder.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::ScratchFolder;
using testing::write_text;

std::vector<int32_t> ids_of(const stdfs::path& folder) {
  const auto dataset = TokenDataset::open(folder);
  std::vector<int32_t> ids(dataset->tokens());
  dataset->read(0, ids.size(), ids.data());
  return ids;
}

/// All files of a folder by relative name.
std::map<std::string, std::string> contents(const stdfs::path& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : stdfs::recursive_directory_iterator(folder))
    files[stdfs::relative(entry.path(), folder).string()] =
        entry.is_regular_file() ? testing::read_text(entry.path()) : "";
  return files;
}

TEST_CASE("documents become their ids, each with the separator") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(testing::small_tokenizer(folder.path()));
  const auto text = write_text(folder.path() / "t.txt", "kalo mi\n\nneru\n");
  const auto first = tokenizer.encode("kalo mi"), second = tokenizer.encode("neru");
  TokenizeOptions options;
  options.reader.unit = DocumentUnit::kLine;
  const auto tokenized = [&](const Separator& separator) {
    options.separator = separator;
    options.overwrite = true;
    const Manifest manifest = tokenize(tokenizer, {text}, folder.path() / "out", options).at(0);
    CHECK(manifest.documents() == 2);
    CHECK(manifest.empty_documents == 1);
    CHECK(manifest.text_bytes == 11);
    return ids_of(folder.path() / "out");
  };
  const auto joined = [](std::vector<int32_t> a, const std::vector<int32_t>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  };
  CHECK(tokenized({}) == joined(first, second));
  CHECK(tokenized({Separator::Kind::kEos, ""}) == joined(joined(first, {2}), joined(second, {2})));
  CHECK(tokenized({Separator::Kind::kText, "<S>"}) ==
        joined(tokenizer.encode("kalo mi<S>"), tokenizer.encode("neru<S>")));
  CHECK(TokenDataset::open(folder.path() / "out")->tokenizer_sha256() == tokenizer.sha256());
}

TEST_CASE("documents that are left out leave no trace but their counts") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(testing::small_tokenizer(folder.path()));
  std::string good, bad;  // lines
  for (uint32_t i = 0; i < 300; ++i) {
    std::string line = testing::prose(60, i);
    std::replace(line.begin(), line.end(), '\n', ' ');
    if (i == 0 || i % 7 == 3) bad += line + "\xFF" + line + '\n';  // the first one, too: a shard that begins with it
    good += line + '\n';
    bad += line + '\n';
  }
  TokenizeOptions options;
  options.reader = {.unit = DocumentUnit::kLine, .max_document_bytes = 100};  // lines come in pieces
  options.validation_ratio = 0.3;
  options.shard_tokens = 2000;
  options.batch_bytes = 500;
  const auto text = write_text(folder.path() / "good.txt", good);
  tokenize(tokenizer, {text}, folder.path() / "good", options);
  options.reader.on_bad_record = OnBadRecord::kSkip;
  options.journal_seconds = 0;  // a note wherever there may be one
  int told = 0;
  options.left_out = [&](const std::string&) { ++told; };
  const auto other = write_text(folder.path() / "bad.txt", bad);
  for (const int threads : {1, 3}) {
    options.threads = threads;
    options.overwrite = true;
    const auto manifests = tokenize(tokenizer, {other}, folder.path() / "bad", options);
    CHECK(manifests.at(0).bad_records == 44);
    CHECK(manifests.at(1).bad_records == 0);
    auto files = contents(folder.path() / "bad"), expected = contents(folder.path() / "good");
    CHECK(files.at("train/manifest.json") != expected.at("train/manifest.json"));  // it has the count
    files.erase("train/manifest.json"), expected.erase("train/manifest.json");
    CHECK((files == expected));
    CHECK(Manifest::load(folder.path() / "bad" / "train").bad_records == 44);
  }
  CHECK(told == 88);
}

TEST_CASE("the bytes written do not depend on the number of threads") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(testing::small_tokenizer(folder.path()));
  std::vector<stdfs::path> inputs;
  for (uint32_t i = 0; i < 5; ++i)
    inputs.push_back(write_text(folder.path() / ("in-" + std::to_string(i) + ".txt"), testing::prose(20000, i)));
  TokenizeOptions options;
  options.reader = {.unit = DocumentUnit::kLine, .max_document_bytes = 64};  // most lines come in pieces
  options.validation_ratio = 0.2;
  options.shard_tokens = 20000;
  std::map<std::string, std::string> reference;
  for (const int threads : {1, 2, 5}) {
    options.threads = threads;
    const stdfs::path output = folder.path() / ("out-" + std::to_string(threads));
    const auto manifests = tokenize(tokenizer, inputs, output, options);
    CHECK(manifests[0].split_documents > 0);
    CHECK(manifests[0].shards.size() > 1);
    if (threads == 1) reference = contents(output);
    CHECK((contents(output) == reference));
  }
}

TEST_CASE("documents are divided by their text: disjoint, complete, about as the ratio says") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(testing::small_tokenizer(folder.path()));
  const auto text = write_text(folder.path() / "t.txt", testing::prose(20000));
  TokenizeOptions options;
  options.reader.unit = DocumentUnit::kLine;
  const auto all = tokenize(tokenizer, {text}, folder.path() / "all", options);
  options.validation_ratio = 0.1;
  const auto parts = tokenize(tokenizer, {text}, folder.path() / "parts", options);
  REQUIRE(parts.size() == 2);
  CHECK(parts[0].part == "train");
  CHECK(parts[0].tokens() + parts[1].tokens() == all[0].tokens());
  // 2000 distinct documents: binomial, standard deviation 13.4; five of them either side.
  CHECK(std::abs(static_cast<double>(parts[1].documents()) - 200) < 67);
  CHECK(in_validation("a", 1.0));
  CHECK_FALSE(in_validation("a", 0.0));
  options.reader.unit = DocumentUnit::kFile;
  CHECK_THROWS_WITH_AS(tokenize(tokenizer, {text}, folder.path() / "one", options), doctest::Contains("falls into"),
                       IoError);
  CHECK_FALSE(stdfs::exists(folder.path() / "one"));
}

TEST_CASE("shards that are there stay as they are, unless they are to be replaced") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(testing::small_tokenizer(folder.path()));
  const auto text = write_text(folder.path() / "t.txt", testing::prose(1000));
  const auto bad = write_text(folder.path() / "bad.txt", testing::prose(100000) + "\xFF");
  const stdfs::path output = folder.path() / "out";
  TokenizeOptions options;
  options.reader.unit = DocumentUnit::kLine;
  options.validation_ratio = 0.2;
  write_text(output / "notes.txt", "mine");
  tokenize(tokenizer, {text}, output, options);
  const auto before = contents(output);
  CHECK_THROWS_WITH_AS(tokenize(tokenizer, {text}, output, options), doctest::Contains("already holds shards"),
                       IoError);
  options.overwrite = true;
  CHECK_THROWS_WITH_AS(tokenize(tokenizer, {text, bad}, output, options), doctest::Contains("bad.txt:10001"), IoError);
  CHECK((contents(output) == before));
  options.validation_ratio = 0;
  tokenize(tokenizer, {text}, output, options);
  CHECK(contents(output).size() == 3);  // notes.txt, manifest.json, one shard; train and validation are gone
  CHECK(contents(output).at("notes.txt") == "mine");
}

TEST_CASE("bad input leaves no folder behind") {
  const ScratchFolder folder;
  const Tokenizer tokenizer = Tokenizer::load(testing::small_tokenizer(folder.path()));
  const auto empty = write_text(folder.path() / "empty.txt", "");
  const stdfs::path output = folder.path() / "out";
  CHECK_THROWS_WITH_AS(tokenize(tokenizer, {empty}, output, {}), doctest::Contains("empty.txt"), IoError);
  CHECK_THROWS_AS(tokenize(tokenizer, {folder.path() / "none"}, output, {}), IoError);
  CHECK_FALSE(stdfs::exists(output));
  CHECK_THROWS_WITH_AS(tokenize(tokenizer, {empty}, empty, {}), doctest::Contains("not a folder"), IoError);
}

TEST_CASE("the pipeline keeps order and stops at the first error in order") {
  for (const int threads : {1, 2, 8}) {
    int produced = 0;
    std::vector<int> consumed;
    const auto work = [](int i) {
      if (i % 7 == 0) std::this_thread::yield();
      if (i >= 500) throw IoError("item " + std::to_string(i));
      return i * i;
    };
    OrderedPipeline<int, int> pipeline(
        threads, [&]() -> std::optional<int> { return produced < 10000 ? std::optional(produced++) : std::nullopt; },
        work);
    CHECK_THROWS_WITH_AS(pipeline.run([&](int square) { consumed.push_back(square); }), "item 500", IoError);
    REQUIRE(consumed.size() == 500);
    for (int i = 0; i < 500; ++i) CHECK(consumed[static_cast<size_t>(i)] == i * i);
  }
}

TEST_CASE("what is under way in the pipeline weighs no more than it may; a heavier item goes alone") {
  constexpr int kMost = 10;
  for (const int item : {1, 4, 30}) {
    int produced = 0, consumed = 0;
    std::atomic<int> weight = 0, heaviest = 0;
    const auto produce = [&]() -> std::optional<int> {
      if (produced == 1000) return std::nullopt;
      ++produced;
      heaviest = std::max<int>(heaviest, weight += item);
      return item;
    };
    const auto take = [&](int taken) {
      ++consumed;
      std::this_thread::yield();
      weight -= taken;
    };
    const auto itself = [](int i) { return i; };
    OrderedPipeline<int, int> pipeline(8, produce, itself, [](int i) { return static_cast<uint64_t>(i); }, kMost);
    pipeline.run(take);
    CHECK(consumed == 1000);
    CHECK(heaviest <= std::max(kMost, item) + 2 * item);  // and the one that waits for room, the one that is consumed
  }
}

TEST_CASE("an error of the producer arrives after what it produced; an error of the consumer stops all") {
  int produced = 0, consumed = 0;
  const auto produce = [&]() -> std::optional<int> {
    if (produced == 20) throw IoError("no more");
    return produced++;
  };
  OrderedPipeline<int, int> pipeline(3, produce, [](int i) { return i; });
  CHECK_THROWS_WITH_AS(pipeline.run([&](int) { ++consumed; }), "no more", IoError);
  CHECK(consumed == 20);
  std::atomic<int> endless = 0;
  const auto count_on = [&]() -> std::optional<int> { return endless++; };
  OrderedPipeline<int, int> other(3, count_on, [](int i) { return i; });
  CHECK_THROWS_WITH_AS(other.run([](int i) {
    if (i == 5) throw IoError("enough");
  }),
                       "enough", IoError);
}

}  // namespace
}  // namespace moeut
