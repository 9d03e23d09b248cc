#include "data/shard.h"

#include <doctest/doctest.h>

#include <cstdlib>

#include "core/error.h"
#include "data/dataset.h"
#include "data/hash.h"
#include "data/hdf5_file.h"
#include "data/verify.h"
#include "tests/data/text_files.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::counting_shards;
using testing::ScratchFolder;

std::vector<int32_t> read_all(const TokenDataset& dataset) {
  std::vector<int32_t> ids(dataset.tokens());
  dataset.read(0, ids.size(), ids.data());
  return ids;
}

TEST_CASE("what was written is read across shards, with its boundaries") {
  const ScratchFolder folder;
  const Manifest manifest = counting_shards(folder.path(), 1000, 30, 250);
  CHECK(manifest.tokens() == 1000);
  CHECK(manifest.documents() == 34);
  REQUIRE(manifest.shards.size() == 4);  // closed by the first document that brings a shard to 250
  CHECK(manifest.shards[0].tokens == 270);
  CHECK(manifest.shards[3].tokens == 190);
  const auto dataset = TokenDataset::open(folder.path());
  CHECK(dataset->tokens() == 1000);
  CHECK(dataset->vocab_size() == 60000);
  const auto ids = read_all(*dataset);
  for (size_t i = 0; i < ids.size(); ++i) CHECK(ids[i] == static_cast<int32_t>(i));
  CHECK(dataset->shards()[1].document_offset(1) == 30);
  CHECK(dataset->shards()[3].document_offset(dataset->shards()[3].layout().documents) == 190);
  int32_t out[3];
  dataset->read(269, 3, out);
  CHECK(out[0] == 269);
  CHECK(out[2] == 271);
  CHECK_THROWS_AS(dataset->read(999, 2, out), IoError);
  CHECK(verify_shards({folder.path()}).defects.empty());
  CHECK(verify_shards({folder.path()}).tokens == 1000);
}

TEST_CASE("ids are 16 bits wide up to a vocabulary of 65536, then 32") {
  const ScratchFolder folder;
  counting_shards(folder.path() / "small", 66000, 66000, 100000, 65536);
  counting_shards(folder.path() / "large", 66000, 66000, 100000, 65537);
  CHECK(Hdf5File(folder.path() / "small" / "shard-00000.h5").info("tokens").type == Hdf5Type::kUint16);
  CHECK(Hdf5File(folder.path() / "large" / "shard-00000.h5").info("tokens").type == Hdf5Type::kUint32);
  CHECK(read_all(*TokenDataset::open(folder.path() / "small"))[65536] == 0);
  CHECK(read_all(*TokenDataset::open(folder.path() / "large"))[65536] == 65536);
}

TEST_CASE("the format's frozen bytes") {
  const ScratchFolder folder;
  const Manifest manifest = counting_shards(folder.path(), 1000, 30, 250);
  // A change of any of these makes existing shards or checkpoints unreadable: it needs a new format version.
  const Hdf5File file(folder.path() / "shard-00000.h5");
  CHECK(file.list() == std::vector<std::string>{"block_hashes", "document_offsets", "tokens"});
  CHECK(file.string_attribute("format") == "moeut-shard");
  CHECK(file.uint_attribute("format_version") == 1);
  CHECK(file.uint_attribute("block_tokens") == 65536);
  std::vector<uint16_t> ids(270);
  std::iota(ids.begin(), ids.end(), uint16_t{0});
  CHECK(file.read<uint64_t>("block_hashes") == std::vector<uint64_t>{xxh3_64(ids.data(), 540)});
  CHECK(file.read<uint64_t>("document_offsets")[9] == 270);
}

/// True if opening and reading everything throws, or gives exactly the right ids and boundaries.
bool caught_or_harmless(const stdfs::path& folder, const std::vector<int32_t>& right, bool& caught) {
  try {
    const auto dataset = TokenDataset::open(folder);
    bool same = dataset->documents() == 34 && read_all(*dataset) == right;
    uint64_t document = 0;
    for (const Shard& shard : dataset->shards())
      for (uint64_t d = 0; d < shard.layout().documents; ++d, ++document)
        same = same && shard.document_offset(d) == 30 * document - (&shard - dataset->shards().data()) * 600;
    caught = false;
    return same;
  } catch (const IoError&) {
    caught = true;
    return true;
  }
}

/// With MOEUT_FULL_TESTS 10,000 flips and 1,000 truncations, all of them shown to verify.
TEST_CASE("every flipped bit and every truncation is reported by verify, and never becomes a wrong id") {
  const bool full = std::getenv("MOEUT_FULL_TESTS") != nullptr;
  const uint64_t flips = full ? 3334 : 300, truncations = full ? 334 : 60, verify_every = full ? 1 : 10;
  const ScratchFolder folder;
  counting_shards(folder.path(), 1000, 30, 600);
  const auto right = read_all(*TokenDataset::open(folder.path()));
  for (const char* name : {"shard-00000.h5", "shard-00001.h5", "manifest.json"}) {
    const stdfs::path path = folder.path() / name;
    const std::string whole = testing::read_text(path);
    for (uint64_t i = 0; i < flips; ++i) {
      const uint64_t bit = (i * 0x9E3779B97F4A7C15ull >> 20) % (whole.size() * 8);
      CAPTURE(bit);
      testing::flip_bit(path, bit);
      bool caught = false;
      CHECK(caught_or_harmless(folder.path(), right, caught));
      CHECK(caught);  // every byte is covered by the frame's hash or a block's
      if (i % verify_every == 0) CHECK_FALSE(verify_shards({folder.path()}).defects.empty());
      testing::flip_bit(path, bit);
    }
    for (uint64_t i = 0; i < truncations; ++i) {
      stdfs::resize_file(path, whole.size() * i / truncations);
      bool caught = false;
      CHECK(caught_or_harmless(folder.path(), right, caught));
      CHECK(caught);
      if (i % verify_every == 0) CHECK_FALSE(verify_shards({folder.path()}).defects.empty());
      testing::write_text(path, whole);
    }
  }
  CHECK(verify_shards({folder.path()}).defects.empty());
}

TEST_CASE("verify names each defect once, with the cure") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1000, 30, 250);
  stdfs::remove(folder.path() / "shard-00001.h5");
  stdfs::resize_file(folder.path() / "shard-00002.h5", 900);
  stdfs::copy(folder.path() / "shard-00000.h5", folder.path() / "shard-00009.h5");
  const auto defects = verify_shards({folder.path(), folder.path() / "none"}).defects;
  REQUIRE(defects.size() == 4);
  CHECK(defects[0].find("shard-00001.h5': is missing") != std::string::npos);
  CHECK(defects[1].find("shard-00002.h5': has 900 bytes") != std::string::npos);
  CHECK(defects[2].find("shard-00009.h5': is not in the manifest") != std::string::npos);
  CHECK(defects[3].find("none': no such file") != std::string::npos);
}

TEST_CASE("a shard without its manifest is checked by its own hashes") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1000, 30, 2000);
  const stdfs::path alone = folder.path() / "alone" / "x.h5";
  stdfs::create_directories(alone.parent_path());
  stdfs::copy(folder.path() / "shard-00000.h5", alone);
  CHECK(verify_shards({alone}).defects.empty());
  testing::flip_bit(alone, 8 * (read_shard_layout(alone).tokens_at + 5));
  REQUIRE(verify_shards({alone}).defects.size() == 1);
  CHECK(verify_shards({alone}).defects[0].find("block 0 (tokens 0 to 999)") != std::string::npos);
  const Shard shard(alone, read_foreign_shard_layout(alone));
  int32_t id = 0;
  CHECK_THROWS_WITH_AS(shard.read(0, 1, &id), doctest::Contains("does not match its hash"), IoError);
}

TEST_CASE("folders that are not finished, divided, or swapped say what to do") {
  const ScratchFolder folder;
  CHECK_THROWS_WITH_AS(TokenDataset::open(folder.path() / "none"), doctest::Contains("no such file or folder"),
                       IoError);
  CHECK_THROWS_WITH_AS(TokenDataset::open(folder.path()), doctest::Contains("interrupted"), IoError);
  counting_shards(folder.path() / "d" / "train", 100, 30, 200);
  CHECK_THROWS_WITH_AS(TokenDataset::open(folder.path() / "d"), doctest::Contains("name '"), IoError);
  counting_shards(folder.path() / "e", 100, 20, 200);
  stdfs::copy(folder.path() / "e" / "shard-00000.h5", folder.path() / "d" / "train" / "shard-00000.h5",
              stdfs::copy_options::overwrite_existing);
  CHECK_THROWS_AS(TokenDataset::open(folder.path() / "d" / "train"), IoError);
  CHECK_THROWS_WITH_AS(ShardWriter(folder.path() / "f", {10, "", {}}, 100).append(std::vector<int32_t>{10}),
                       doctest::Contains("id 10"), IoError);
}

TEST_CASE("the fingerprint names the content and not the place") {
  const ScratchFolder folder;
  counting_shards(folder.path() / "a", 1000, 30, 250);
  counting_shards(folder.path() / "b", 1000, 30, 250);
  counting_shards(folder.path() / "c", 1000, 31, 250);
  const auto a = TokenDataset::open(folder.path() / "a")->fingerprint();
  CHECK(a == TokenDataset::open(folder.path() / "b")->fingerprint());
  CHECK(a != TokenDataset::open(folder.path() / "c")->fingerprint());
}

TEST_CASE("unigram entropy of a uniform distribution is the logarithm of its size") {
  const ScratchFolder folder;
  counting_shards(folder.path(), 1000, 100, 400, 10);
  // Ten equal terms, each rounded to 1 ulp.
  CHECK(unigram_entropy(*TokenDataset::open(folder.path())) == doctest::Approx(std::log(10.0)).epsilon(1e-14));
}

}  // namespace
}  // namespace moeut
