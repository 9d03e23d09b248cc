#include "data/shard_writer.h"

#include <doctest/doctest.h>

#include <fstream>
#include <sstream>

#include "core/error.h"
#include "data/verify.h"
#include "tests/data/text_files.h"
#include "tests/sanitized.h"
#include "tests/scratch_folder.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;
using testing::ScratchFolder;

/// Peak resident MiB of this process since the last reset; 0 where the system does not tell.
double peak_mib(bool reset) {
  if (reset) std::ofstream("/proc/self/clear_refs") << "5";
  std::stringstream status;
  status << std::ifstream("/proc/self/status").rdbuf();
  const size_t at = status.str().find("VmHWM:");
  return at == std::string::npos ? 0 : std::stod(status.str().substr(at + 6)) / 1024;
}

TEST_CASE("the memory of writing a shard does not grow with the shard") {
  const ScratchFolder folder;
  ShardWriter writer(folder.path(), {100'000, std::string(64, 'a'), {}}, uint64_t{1} << 40);
  std::vector<int32_t> ids(1 << 20, 7);
  const double before = peak_mib(true);
  for (int i = 0; i < 48; ++i) writer.append(ids);  // 192 MiB
  writer.end_document();
  CHECK(writer.finish({}).tokens() == uint64_t{48} << 20);
  // 32 MiB of the finished file are seen at once while it is read back, and there are some buffers. (A sanitizer keeps
  // a shadow of several times that.)
  if (!testing::kSanitized) CHECK(peak_mib(false) - before < 100);
}

TEST_CASE("the memory of writing a shard does not grow with the number of documents") {
  const ScratchFolder folder;
  ShardWriter writer(folder.path(), {100'000, std::string(64, 'a'), {}}, uint64_t{1} << 40);
  const double before = peak_mib(true);
  constexpr uint64_t kDocuments = (testing::kSanitized ? 1 : 24) << 20;  // of a token each: 192 MiB of document offsets
  for (uint64_t i = 0; i < kDocuments; ++i) {
    writer.append(std::vector<int32_t>{7});
    writer.end_document();
  }
  CHECK(writer.finish({}).documents() == kDocuments);
  if (!testing::kSanitized) CHECK(peak_mib(false) - before < 100);
  CHECK(verify_shards({folder.path()}).defects.empty());
}

TEST_CASE("a writer goes on from a sync in mid-document, and takes back what came after it") {
  const ScratchFolder folder;
  const ShardInfo info{1000, std::string(64, 'a'), {}};
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5, 6, 7};
  const auto document = [&](ShardWriter& writer) {
    writer.append(ids);
    writer.append(ids);
    writer.end_document();
  };
  ShardWriter whole(folder.path() / "whole", info, 30);
  for (int i = 0; i < 8; ++i) document(whole);
  const std::string expected = whole.finish({}).render();

  const stdfs::path path = folder.path() / "parts";
  OpenShard open;
  std::vector<ManifestShard> closed;
  {
    ShardWriter writer(path, info, 30);
    for (int i = 0; i < 4; ++i) document(writer);
    writer.append(ids);
    open = writer.sync();
    closed = writer.closed();
    writer.drop_closed_spools();
    CHECK(open.tokens == 14 + 7);
    CHECK(open.documents == 1);
    CHECK(open.document_start == 14);
    CHECK(closed.size() == 1);
    for (int i = 0; i < 9; ++i) document(writer);
  }
  CHECK(stdfs::exists(path / "shard-00002.h5"));
  ShardWriter writer(path, info, 30, closed, open);
  CHECK_FALSE(stdfs::exists(path / "shard-00001.h5"));
  CHECK(writer.document_tokens() == 7);
  writer.append(ids);
  writer.end_document();
  for (int i = 5; i < 8; ++i) document(writer);
  CHECK(writer.finish({}).render() == expected);
  CHECK(verify_shards({path}).defects.empty());
  CHECK(std::distance(stdfs::directory_iterator(path), {}) == 4);  // three shards and the manifest

  closed[0].bytes += 1;
  CHECK_THROWS_WITH_AS(ShardWriter(path, info, 30, closed, {}), doctest::Contains("is not as it was written"), IoError);
}

}  // namespace
}  // namespace moeut
