#include "data/loader.h"

#include <doctest/doctest.h>

#include <set>

#include "core/error.h"
#include "data/permutation.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::counting_shards;
using testing::ScratchFolder;

TEST_CASE("a permutation is a bijection, for small sizes all and for large ones in part") {
  for (uint64_t n = 1; n <= 300; ++n) {
    const Permutation order(n, 1, n);
    std::vector<bool> seen(n);
    for (uint64_t i = 0; i < n; ++i) {
      REQUIRE(order(i) < n);
      REQUIRE_FALSE(seen[order(i)]);
      seen[order(i)] = true;
    }
  }
  for (const uint64_t n : {uint64_t{1000003}, (uint64_t{1} << 40) + 17, uint64_t{1} << 62}) {
    std::set<uint64_t> seen;
    const Permutation order(n, 7, 3);
    for (uint64_t i = 0; i < 20000; ++i) {
      const uint64_t element = order(n / 20001 * i);
      CHECK_MESSAGE(element < n, n);
      seen.insert(element);
    }
    CHECK(seen.size() == 20000);
  }
}

TEST_CASE("the order is frozen") {
  // A change of these breaks the resumption of every run: it must not happen.
  std::vector<uint64_t> first;
  const Permutation order(1000, 42, 0);
  for (uint64_t i = 0; i < 8; ++i) first.push_back(order(i));
  CHECK(first == std::vector<uint64_t>{38, 940, 839, 626, 484, 80, 337, 9});
}

TEST_CASE("a permutation looks random: fixed points, neighbours and positions") {
  // Over 2000 permutations of 16: fixed points have mean 1 and variance 1 each, so 2000 ± 5·45 in all; each (position,
  // element) pair has mean 125 and standard deviation 10.8, and the largest deviation of 256 stays below 5 of them.
  int fixed = 0;
  std::vector<std::vector<int>> counts(16, std::vector<int>(16));
  for (uint64_t stream = 0; stream < 2000; ++stream) {
    const Permutation order(16, 3, stream);
    for (uint64_t i = 0; i < 16; ++i) {
      fixed += order(i) == i;
      ++counts[i][order(i)];
    }
  }
  CHECK(std::abs(fixed - 2000) < 225);
  for (const auto& row : counts)
    for (const int count : row) CHECK(std::abs(count - 125) < 54);
}

TEST_CASE("an epoch has every window once; epochs differ; targets follow tokens") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1003, 30, 250);
  const Loader loader(TokenDataset::open(folder.path()), {.seed = 5, .seq_len = 10});
  REQUIRE(loader.samples_per_epoch() == 100);  // (1003 - 1) div 10: the last two tokens are the tail
  std::vector<std::vector<int32_t>> epochs;
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    const Batch batch = loader.get(epoch * 100, 100);
    std::vector<int32_t> starts;
    for (size_t row = 0; row < 100; ++row) {
      const int32_t start = batch.tokens[row * 10];
      starts.push_back(start);
      for (int32_t t = 0; t < 10; ++t) {
        CHECK(batch.tokens[row * 10 + static_cast<size_t>(t)] == start + t);
        CHECK(batch.targets[row * 10 + static_cast<size_t>(t)] == start + t + 1);
      }
    }
    epochs.push_back(starts);
    std::set<int32_t> distinct(starts.begin(), starts.end());
    CHECK(distinct.size() == 100);
    CHECK(*distinct.rbegin() == 990);
  }
  CHECK(epochs[0] != epochs[1]);
  CHECK(epochs[1] != epochs[2]);
}

TEST_CASE("any cut into batches, and any seek, gives the same samples") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1003, 30, 250);
  const Loader loader(TokenDataset::open(folder.path()), {.seed = 5, .seq_len = 10});
  const Batch whole = loader.get(80, 60);  // across an epoch's end
  for (const int64_t size : {1, 7, 60}) {
    std::vector<int32_t> tokens;
    for (int64_t at = 0; at < 60; at += size) {
      const Batch part = loader.get(static_cast<uint64_t>(80 + at), std::min<int64_t>(size, 60 - at));
      tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
    }
    CHECK(tokens == whole.tokens);
  }
  const Batch far = loader.get(1000000000000, 2);  // sample 10^12 is position 0 of epoch 10^10
  CHECK(far.tokens[0] == static_cast<int32_t>(10 * Permutation(100, 5, 10000000000)(0)));
}

TEST_CASE("without shuffling the stream's own order; another seed is another order") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1003, 30, 250);
  const auto dataset = TokenDataset::open(folder.path());
  const Loader in_order(dataset, {.seq_len = 10, .order = SampleOrder::sequential});
  for (uint64_t sample = 0; sample < 250; ++sample) CHECK(in_order.place(sample).sequence == sample % 100);
  const Loader a(dataset, {.seed = 1, .seq_len = 10}), b(dataset, {.seed = 2, .seq_len = 10});
  CHECK(a.get(0, 50).tokens != b.get(0, 50).tokens);
}

TEST_CASE("reading ahead delivers what get() does, from any place, again and again") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1003, 30, 250);
  Loader loader(TokenDataset::open(folder.path()), {.seed = 5, .seq_len = 10, .prefetch = 3});
  CHECK_THROWS_AS(loader.next(), Error);
  for (const uint64_t first : {0u, 37u, 95u}) {
    loader.start(first, 4);
    for (uint64_t i = 0; i < 60; ++i) {
      const Batch ahead = loader.next(), direct = loader.get(first + 4 * i, 4);
      CHECK(ahead.first_sample == first + 4 * i);
      CHECK(ahead.tokens == direct.tokens);
      CHECK(ahead.targets == direct.targets);
    }
  }
  loader.start(0, 1);  // and destroyed while it reads
}

TEST_CASE("a damaged block stops the reading thread, and next() says so each time") {
  const ScratchFolder folder;
  const Manifest manifest = counting_shards(folder.path(), 300000, 1000, 1000000);
  testing::flip_bit(folder.path() / "shard-00000.h5", 8 * (manifest.shards[0].tokens_at + 2 * 200000));
  Loader loader(TokenDataset::open(folder.path()), {.seq_len = 100, .order = SampleOrder::sequential});
  loader.start(0, 100);
  int delivered = 0;
  try {
    for (;; ++delivered) loader.next();
  } catch (const IoError& error) {
    CHECK(std::string(error.what()).find("block 3") != std::string::npos);
  }
  CHECK(delivered == 19);  // batch 19 reads tokens 190000 to 200000; block 3 begins at 196608
  CHECK_THROWS_AS(loader.next(), IoError);
}

TEST_CASE("too little text and impossible options are refused with the cure") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 11, 30, 250);
  const auto dataset = TokenDataset::open(folder.path());
  CHECK(Loader(dataset, {.seq_len = 10}).samples_per_epoch() == 1);
  CHECK_THROWS_WITH_AS(Loader(dataset, {.seq_len = 11}), doctest::Contains("smaller train.seq_len"), IoError);
  CHECK_THROWS_AS(Loader(dataset, {.seq_len = 0}), ConfigError);
  CHECK_THROWS_AS(Loader(dataset, {.seq_len = 1, .prefetch = 0}), ConfigError);
  CHECK_THROWS_AS(Loader(dataset, {.seq_len = 1}).get(0, 0), ConfigError);
}

}  // namespace
}  // namespace moeut
