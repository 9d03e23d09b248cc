// Order and mixture of what a loader delivers, as a training run of several ranks takes it.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "data/loader.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::document_shards;
using testing::ScratchFolder;

constexpr int64_t kBatch = 24;
constexpr size_t kDocuments[] = {100, 37, 61};

/// Three corpora of 99, 40 and 60 windows of 10 tokens; ids from 20000 · corpus on.
std::vector<Corpus> three_corpora(const std::filesystem::path& folder) {
  std::vector<Corpus> corpora;
  for (const double weight : {0.5, 0.3, 0.2}) {
    const size_t c = corpora.size();
    const auto path = folder / std::to_string(c);
    if (!std::filesystem::exists(path))
      document_shards(path, std::vector<size_t>(kDocuments[c], 10 + c % 2), 300, static_cast<int32_t>(20000 * c));
    corpora.push_back({TokenDataset::open(path), weight});
  }
  return corpora;
}

/// First ids of the rows of `steps` batches as `ranks` ranks see them, each with a loader of its own that reads its
/// part of every batch.
std::vector<int32_t> first_ids(const std::filesystem::path& folder, uint64_t first_step, uint64_t steps,
                               int64_t ranks) {
  std::vector<int32_t> ids(steps * kBatch);
  const int64_t share = kBatch / ranks;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const Loader loader(three_corpora(folder), {.seed = 7, .seq_len = 10});
    for (uint64_t step = 0; step < steps; ++step) {
      const auto row = static_cast<size_t>(rank * share);
      const Batch batch = loader.get((first_step + step) * kBatch + row, share);
      for (size_t b = 0; b < static_cast<size_t>(share); ++b) ids[step * kBatch + row + b] = batch.tokens[b * 10];
    }
  }
  return ids;
}

TEST_CASE("two epochs of three mixed corpora are exact for 1, 2 and 8 ranks, resumed in the middle or not") {
  const ScratchFolder folder;
  const Loader loader(three_corpora(folder.path()), {.seed = 7, .seq_len = 10});
  constexpr uint64_t kSteps = 30;  // 720 samples: 3.6, 5.4 and 2.4 epochs
  const std::vector<int32_t> ids = first_ids(folder.path(), 0, kSteps, 1);
  for (size_t c = 0; c < 3; ++c) {
    const auto n = static_cast<ptrdiff_t>(loader.samples_per_epoch(c));
    std::vector<int32_t> own;
    for (const int32_t id : ids)
      if (id / 20000 == static_cast<int32_t>(c)) own.push_back(id - static_cast<int32_t>(20000 * c));
    REQUIRE(static_cast<ptrdiff_t>(own.size()) >= 2 * n);
    std::vector<int32_t> all(static_cast<size_t>(n));
    for (size_t w = 0; w < all.size(); ++w) all[w] = static_cast<int32_t>(10 * w);
    std::vector<int32_t> first(own.begin(), own.begin() + n), second(own.begin() + n, own.begin() + 2 * n);
    CHECK(first != second);
    std::sort(first.begin(), first.end());
    std::sort(second.begin(), second.end());
    CHECK(first == all);
    CHECK(second == all);
  }
  for (const int64_t ranks : {1, 2, 8}) {
    CAPTURE(ranks);
    CHECK(first_ids(folder.path(), 0, kSteps, ranks) == ids);
    std::vector<int32_t> resumed = first_ids(folder.path(), 0, 13, ranks);
    const std::vector<int32_t> rest = first_ids(folder.path(), 13, kSteps - 13, 8 / ranks);  // of other ranks, too
    resumed.insert(resumed.end(), rest.begin(), rest.end());
    CHECK(resumed == ids);
  }
}

TEST_CASE("a single corpus has the order it always had, whatever its weight; a second one gets a seed of its own") {
  const ScratchFolder folder;
  const std::vector<Corpus> three = three_corpora(folder.path());
  const LoaderOptions options{.seed = 7, .seq_len = 10};
  const Loader alone(three[0].dataset, options), weighted(std::vector<Corpus>{{three[0].dataset, 0.1}}, options);
  CHECK(alone.get(0, 250).tokens == weighted.get(0, 250).tokens);
  CHECK(alone.fingerprint() == three[0].dataset->fingerprint());
  const Loader twice(std::vector<Corpus>{{three[0].dataset, 1}, {three[0].dataset, 1}}, options);
  std::vector<uint64_t> first, second;
  for (uint64_t s = 0; s < 20; ++s) {
    CHECK(twice.place(2 * s).sequence == alone.place(s).sequence);
    first.push_back(twice.place(2 * s).sequence);
    second.push_back(twice.place(2 * s + 1).sequence);
  }
  CHECK(first != second);
}

TEST_CASE("the fingerprint names corpora, their order and their shares") {
  const ScratchFolder folder;
  const std::vector<Corpus> three = three_corpora(folder.path());
  const auto print = [](const std::vector<Corpus>& c) { return Loader(c, {.seq_len = 10}).fingerprint(); };
  const std::set<std::string> all{print({three[0]}), print({three[0], three[1]}), print({three[1], three[0]}),
                                  print({three[0], {three[1].dataset, 0.31}}), print(three)};
  CHECK(all.size() == 5);
  CHECK(print({three[0], {three[1].dataset, 0.3}}) == print({{three[0].dataset, 5}, {three[1].dataset, 3}}));
}

TEST_CASE("lanes read their parts side by side; what does not fill all lanes is left out") {
  const ScratchFolder folder;
  document_shards(folder.path(), {1001}, 2000);  // 100 windows of 10
  const auto dataset = TokenDataset::open(folder.path());
  const Loader loader(dataset, {.seq_len = 10, .order = SampleOrder::lanes, .lanes = 8});
  REQUIRE(loader.samples_per_epoch() == 96);  // 8 lanes of 100 div 8 = 12
  for (uint64_t step = 0; step < 24; ++step) {
    const Batch batch = loader.get(8 * step, 8);
    for (size_t lane = 0; lane < 8; ++lane)
      CHECK(batch.tokens[10 * lane] == static_cast<int32_t>(10 * (12 * lane + step % 12)));
  }
  CHECK_THROWS_WITH_AS(Loader(dataset, {.seq_len = 10, .order = SampleOrder::lanes, .lanes = 101}),
                       doctest::Contains("101 lanes for 100 sequences"), ConfigError);
}

}  // namespace
}  // namespace moeut
