// Orders of one corpus and mixtures of several: what is exact, and what must never change.
#include <doctest/doctest.h>

#include <map>
#include <numeric>
#include <set>

#include "core/error.h"
#include "data/loader.h"
#include "data/permutation.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::counting_shards;
using testing::ScratchFolder;

TEST_CASE("mixture: its first slots are frozen, and every stretch has nearly the shares") {
  const Mixture mixture({0.5, 0.3, 0.2});
  CHECK(mixture.shares() == std::vector<uint64_t>{2048, 1229, 819});
  std::vector<size_t> corpora;
  for (uint64_t s = 0; s < 12; ++s) corpora.push_back(mixture(s).corpus);
  CHECK(corpora == std::vector<size_t>{0, 1, 2, 0, 0, 1, 0, 2, 1, 0, 0, 1});
  std::vector<uint64_t> count(3);
  for (uint64_t s = 0; s < 3 * Mixture::kBlock; ++s) {
    const Mixture::Place place = mixture(s);
    REQUIRE(place.sample == count[place.corpus]++);  // in order, none left out, over the ends of blocks
    for (size_t c = 0; c < 3; ++c) {
      const double exact = static_cast<double>(mixture.shares()[c]) / Mixture::kBlock * static_cast<double>(s + 1);
      REQUIRE(std::abs(static_cast<double>(count[c]) - exact) < 2);
    }
  }
}

TEST_CASE("mixture: a far sample is computed, not walked to") {
  const Mixture mixture({0.5, 0.3, 0.2});
  const uint64_t far = uint64_t{1} << 50;  // the beginning of a block
  for (uint64_t s = 0; s < 20; ++s) {
    const Mixture::Place near = mixture(s), place = mixture(far + s);
    CHECK(place.corpus == near.corpus);
    CHECK(place.sample == near.sample + far / Mixture::kBlock * mixture.shares()[place.corpus]);
  }
}

TEST_CASE("mixture: impossible weights are refused") {
  CHECK_THROWS_WITH_AS(Mixture({1, 0}), doctest::Contains("a weight of 0"), ConfigError);
  CHECK_THROWS_WITH_AS(Mixture({1, std::nan("")}), doctest::Contains("nan"), ConfigError);
  CHECK_THROWS_WITH_AS(Mixture({1, 1e-5}), doctest::Contains("of corpus 2 is less than 1 sequence of 4096"),
                       ConfigError);
}

struct ThreeCorpora {
  ScratchFolder folder;
  std::vector<Corpus> corpora;
  ThreeCorpora() {
    const double weights[] = {0.5, 0.3, 0.2};
    for (uint64_t c = 0; c < 3; ++c) {
      const auto place = folder.path() / std::to_string(c);
      counting_shards(place, 700 + 400 * c, 30, 250);
      corpora.push_back({TokenDataset::open(place), weights[c]});
    }
  }
};

/// (corpus, first id of the window): which sample a row is. Corpora are told apart by the row's place in the order.
using Seen = std::vector<std::pair<size_t, int32_t>>;

/// Rank r of n takes samples r, r + n, ... of each batch; a run is cut at `stop` and goes on with another loader.
Seen seen_by_ranks(const std::vector<Corpus>& corpora, uint64_t samples, uint64_t ranks, uint64_t stop) {
  const LoaderOptions options{.seed = 3, .seq_len = 10};
  Seen seen(samples);
  for (uint64_t rank = 0; rank < ranks; ++rank) {
    for (const auto& [begin, end] : {std::pair{uint64_t{0}, stop}, std::pair{stop, samples}}) {
      const Loader loader(corpora, options);
      for (uint64_t s = begin; s < end; ++s) {
        if (s % ranks == rank) seen[s] = {loader.place(s).corpus, loader.get(s, 1).tokens[0]};
      }
    }
  }
  return seen;
}

TEST_CASE("mixture: over two epochs of each corpus every epoch's samples are exact, on any ranks, with a resume") {
  const ThreeCorpora three;
  const Loader loader(three.corpora, {.seed = 3, .seq_len = 10});
  // Until the slowest corpus, relative to its share, has had two epochs.
  uint64_t samples = 0;
  for (std::vector<uint64_t> count(3);
       count[0] < 2 * loader.samples_per_epoch(0) || count[1] < 2 * loader.samples_per_epoch(1) ||
       count[2] < 2 * loader.samples_per_epoch(2);
       ++samples)
    ++count[loader.place(samples).corpus];
  const Seen alone = seen_by_ranks(three.corpora, samples, 1, 0);
  for (const uint64_t ranks : {1, 2, 8})
    for (const uint64_t stop : {uint64_t{0}, uint64_t{37}, samples / 2})
      CHECK(seen_by_ranks(three.corpora, samples, ranks, stop) == alone);
  for (size_t c = 0; c < 3; ++c) {
    std::vector<int32_t> own;
    for (const auto& [corpus, first] : alone)
      if (corpus == c) own.push_back(first);
    const auto n = static_cast<ptrdiff_t>(loader.samples_per_epoch(c));
    std::vector<int32_t> all(static_cast<size_t>(n));
    for (ptrdiff_t w = 0; w < n; ++w) all[static_cast<size_t>(w)] = static_cast<int32_t>(10 * w);
    for (int epoch = 0; epoch < 2; ++epoch) {
      std::vector<int32_t> sorted(own.begin() + epoch * n, own.begin() + (epoch + 1) * n);
      CHECK(sorted.front() ==
            static_cast<int32_t>(10 * Permutation(static_cast<uint64_t>(n), 3 + c, static_cast<uint64_t>(epoch))(0)));
      std::sort(sorted.begin(), sorted.end());
      CHECK(sorted == all);
    }
  }
}

TEST_CASE("lanes: each row of a batch reads on in its own run of the text") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1003, 30, 250);  // 100 windows of 10: 7 lanes of 14, two windows left out
  const Loader loader(TokenDataset::open(folder.path()), {.seq_len = 10, .shuffle = false, .lanes = 7});
  REQUIRE(loader.samples_per_epoch() == 98);
  std::set<int32_t> firsts;
  for (uint64_t step = 0; step < 28; ++step) {
    const Batch batch = loader.get(7 * step, 7);
    for (size_t lane = 0; lane < 7; ++lane) {
      CHECK(batch.tokens[lane * 10] == static_cast<int32_t>(10 * (14 * lane + step % 14)));
      firsts.insert(batch.tokens[lane * 10]);
    }
  }
  CHECK(firsts.size() == 98);
  const auto dataset = TokenDataset::open(folder.path());
  CHECK_THROWS_WITH_AS(Loader(dataset, {.seq_len = 10, .lanes = 7}), doctest::Contains("without shuffling"),
                       ConfigError);
  CHECK_THROWS_WITH_AS(Loader(dataset, {.seq_len = 10, .shuffle = false, .lanes = 101}),
                       doctest::Contains("fewer than 101 lanes"), IoError);
}

TEST_CASE("document starts: found in any window, across shards") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1003, 30, 250);  // documents of 30 begin at the multiples of 30
  const auto dataset = TokenDataset::open(folder.path());
  const auto expected = [](int64_t first, int64_t i) { return std::max<int64_t>(0, (first + i) / 30 * 30 - first); };
  for (const int64_t first : {0, 1, 29, 30, 263, 269, 270, 900}) {
    std::vector<int32_t> starts(100, -1);
    dataset->document_starts(static_cast<uint64_t>(first), 100, starts.data());
    for (int64_t i = 0; i < 100; ++i) CHECK(starts[static_cast<size_t>(i)] == expected(first, i));
  }
  const Loader loader(dataset, {.seed = 5, .seq_len = 100, .document_starts = true});
  const Batch batch = loader.get(3, 20);
  REQUIRE(batch.document_starts.size() == 2000);
  for (size_t row = 0; row < 20; ++row) {
    const int64_t first = batch.tokens[row * 100];
    for (int64_t i = 0; i < 100; ++i)
      CHECK(batch.document_starts[row * 100 + static_cast<size_t>(i)] == expected(first, i));
  }
  CHECK(Loader(dataset, {.seq_len = 100}).get(0, 1).document_starts.empty());
}

}  // namespace
}  // namespace moeut
