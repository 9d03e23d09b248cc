#include "data/sequences.h"

#include <doctest/doctest.h>

#include <map>

#include "core/error.h"
#include "data/loader.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::document_shards;
using testing::ScratchFolder;

/// Lengths that meet every case: one token, whole windows of 8 targets, one more, and many in a row without a sequence.
std::vector<size_t> lengths() {
  std::vector<size_t> all{1, 9, 10, 2, 17, 18, 100, 8, 1, 1};
  all.insert(all.end(), 40, 1);
  for (size_t i = 0; i < 60; ++i) all.push_back(1 + i * 7 % 23);
  return all;
}

TEST_CASE("one document a sequence: every token but each document's first is a target once, and none beside") {
  const ScratchFolder folder;
  document_shards(folder.path(), lengths(), 150);
  const auto dataset = TokenDataset::open(folder.path());
  REQUIRE(dataset->shards().size() > 3);
  const Loader loader(dataset, {.seq_len = 8, .order = SampleOrder::sequential, .packing = Packing::document});
  const Batch batch = loader.get(0, static_cast<int64_t>(loader.samples_per_epoch()));
  CHECK(batch.padded);
  CHECK(batch.document_starts.empty());
  // Ids are stream positions, so the targets in order are the positions that are no document's first.
  std::vector<int32_t> expected;
  int32_t position = 0;
  for (const size_t length : lengths()) {
    for (size_t i = 0; i < length; ++i, ++position)
      if (i > 0) expected.push_back(position);
  }
  std::vector<int32_t> targets;
  for (size_t i = 0; i < batch.targets.size(); ++i) {
    if (batch.targets[i] == Batch::kIgnoredTarget) {
      CHECK(batch.tokens[i] == 0);
      continue;
    }
    CHECK(batch.tokens[i] == batch.targets[i] - 1);
    targets.push_back(batch.targets[i]);
  }
  CHECK(targets == expected);
  CHECK(batch.real_targets() == static_cast<int64_t>(expected.size()));
}

TEST_CASE("a document of L tokens has ceil((L - 1) / T) sequences") {
  const ScratchFolder folder;
  const std::map<size_t, uint64_t> expected{{1, 0}, {2, 1}, {9, 1}, {10, 2}, {17, 2}, {18, 3}};
  for (const auto& [length, windows] : expected) {
    const auto path = folder.path() / std::to_string(length);
    document_shards(path, {length, 2}, 1000);  // another, as none at all is an error
    CHECK(SequenceIndex(TokenDataset::open(path), Packing::document, 8).sequences() == windows + 1);
  }
  document_shards(folder.path() / "none", {1, 1}, 1000);
  CHECK_THROWS_WITH_AS(SequenceIndex(TokenDataset::open(folder.path() / "none"), Packing::document, 8),
                       doctest::Contains("no document of two tokens"), IoError);
}

TEST_CASE("a document mask says of each token where its document begins in the window") {
  const ScratchFolder folder;
  document_shards(folder.path(), lengths(), 150);
  const auto dataset = TokenDataset::open(folder.path());
  std::vector<int32_t> begins;  // of the document of each stream position
  for (const size_t length : lengths()) begins.insert(begins.end(), length, static_cast<int32_t>(begins.size()));
  const Loader masked(dataset, {.seed = 3, .seq_len = 8, .document_mask = true});
  const auto count = static_cast<int64_t>(masked.samples_per_epoch());
  const Batch batch = masked.get(0, count), without = Loader(dataset, {.seed = 3, .seq_len = 8}).get(0, count);
  CHECK(without.document_starts.empty());
  CHECK(batch.tokens == without.tokens);
  CHECK(batch.targets == without.targets);  // a document's last token predicts the next one's first
  CHECK(batch.real_targets() == count * 8);
  for (size_t i = 0; i < batch.tokens.size(); ++i) {
    const int32_t window = batch.tokens[i - i % 8];
    REQUIRE(batch.document_starts[i] == std::max(0, begins[static_cast<size_t>(batch.tokens[i])] - window));
  }
}

TEST_CASE("documents are found by number and by position, across shards") {
  const ScratchFolder folder;
  document_shards(folder.path(), lengths(), 150);
  const auto dataset = TokenDataset::open(folder.path());
  REQUIRE(dataset->documents() == lengths().size());
  uint64_t start = 0;
  for (uint64_t d = 0; d < dataset->documents(); ++d) {
    REQUIRE(dataset->document_start(d) == start);
    REQUIRE(dataset->document_at(start) == d);
    start += lengths()[d];
    REQUIRE(dataset->document_at(start - 1) == d);
  }
  CHECK(dataset->document_start(dataset->documents()) == dataset->tokens());
}

}  // namespace
}  // namespace moeut
