#include "data/sample_export.h"

#include <doctest/doctest.h>

#include <cstring>
#include <regex>

#include "core/check.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

using testing::counting_shards;
using testing::read_text;
using testing::ScratchFolder;

/// What numpy.load makes of a file.
struct Array {
  std::string descr;
  uint64_t rows = 0, columns = 0;
  std::vector<int32_t> ids;
};

Array load_npy(const std::filesystem::path& path) {
  const std::string file = read_text(path);
  REQUIRE(file.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
  const size_t length = static_cast<uint8_t>(file[8]) + 256u * static_cast<uint8_t>(file[9]);
  REQUIRE((10 + length) % 64 == 0);
  REQUIRE(file[9 + length] == '\n');
  const std::string text = file.substr(10, length);
  std::smatch found;
  REQUIRE(std::regex_match(
      text, found, std::regex(R"(\{'descr': '(<u[24])', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n)")));
  Array array{found[1], std::stoull(found[2]), std::stoull(found[3]), {}};
  const size_t item = array.descr == "<u2" ? 2 : 4;
  REQUIRE(file.size() == 10 + length + array.rows * array.columns * item);
  for (size_t at = 10 + length; at < file.size(); at += item) {
    uint32_t id = 0;
    std::memcpy(&id, file.data() + at, item);  // little-endian hosts only, as all of the project
    array.ids.push_back(static_cast<int32_t>(id));
  }
  return array;
}

/// The loader's batches of four, as a training run takes them, against the rows of the file.
void check_rows(const Array& array, Loader& loader, uint64_t first) {
  const uint64_t length = array.columns - 1;
  loader.start(first, 4);
  for (uint64_t row = 0; row < array.rows;) {
    const Batch batch = loader.next();
    for (uint64_t b = 0; b < 4 && row < array.rows; ++b, ++row) {
      const auto ids = array.ids.begin() + static_cast<ptrdiff_t>(row * array.columns);
      const auto at = static_cast<ptrdiff_t>(b * length), end = static_cast<ptrdiff_t>((b + 1) * length);
      CHECK(std::equal(batch.tokens.begin() + at, batch.tokens.begin() + end, ids));
      CHECK(std::equal(batch.targets.begin() + at, batch.targets.begin() + end, ids + 1));
    }
  }
}

TEST_CASE("the file holds what the loader feeds, across chunks and epochs") {
  const ScratchFolder folder;
  counting_shards(folder.path() / "data", 1003, 30, 250);
  const auto dataset = TokenDataset::open(folder.path() / "data");
  for (const SampleOrder order : {SampleOrder::shuffled, SampleOrder::sequential, SampleOrder::lanes}) {
    Loader loader(dataset, {.seed = 5, .seq_len = 10, .order = order, .lanes = 7});
    for (const SampleRange range : {SampleRange{0, 250}, {37, 128}, {99, 1}}) {
      export_samples(loader, range, dataset->vocab_size(), folder.path() / "out/samples.npy");
      const Array array = load_npy(folder.path() / "out/samples.npy");
      CHECK(array.descr == "<u2");
      CHECK(array.rows == range.count);
      CHECK(array.columns == 11);
      check_rows(array, loader, range.first);
    }
  }
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path() / "out"), {}) == 1);
}

TEST_CASE("a vocabulary over 65536 is written in four bytes") {
  const ScratchFolder folder;
  counting_shards(folder.path() / "data", 100003, 1000, 1000000, 100000);
  const auto dataset = TokenDataset::open(folder.path() / "data");
  Loader loader(dataset, {.seq_len = 1000, .order = SampleOrder::sequential});
  export_samples(loader, {90, 10}, dataset->vocab_size(), folder.path() / "samples.npy");
  const Array array = load_npy(folder.path() / "samples.npy");
  CHECK(array.descr == "<u4");
  CHECK(array.ids[0] == 90000);
  check_rows(array, loader, 90);
}

TEST_CASE("what cannot be exported leaves the earlier file and nothing half-written") {
  const ScratchFolder folder;
  const Manifest manifest = counting_shards(folder.path() / "data", 300000, 1000, 1000000);
  testing::flip_bit(folder.path() / "data/shard-00000.h5", 8 * (manifest.shards[0].tokens_at + 2 * 200000));
  const auto dataset = TokenDataset::open(folder.path() / "data");
  const Loader loader(dataset, {.seq_len = 100, .order = SampleOrder::sequential});
  const auto output = testing::write_text(folder.path() / "out/samples.npy", "earlier");
  CHECK_THROWS_WITH_AS(export_samples(loader, {0, 2500}, 60000, output), doctest::Contains("block 3"), IoError);
  CHECK_THROWS_WITH_AS(export_samples(loader, {0, 0}, 60000, output), doctest::Contains("give 1 at least"),
                       ConfigError);
  CHECK(read_text(output) == "earlier");
  CHECK(std::distance(std::filesystem::directory_iterator(output.parent_path()), {}) == 1);
}

}  // namespace
}  // namespace moeut
