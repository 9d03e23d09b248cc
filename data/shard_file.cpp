#include "data/shard_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "core/check.h"
#include "data/hash.h"
#include "data/hdf5_file.h"

namespace moeut {
namespace {

/// HDF5 writes through its own descriptor: open the finished file once more to put it on the disk.
/// Gives what HDF5 has left out of the file its place on the disk as well: a page of a hole that is read through a
/// mapping needs one on a tmpfs, and where that is full the process ends by SIGBUS.
int fill_holes(int fd) {
  struct stat info = {};
  if (::fstat(fd, &info) != 0) return errno;
  const int error = info.st_size == 0 ? 0 : ::posix_fallocate(fd, 0, info.st_size);
  return error == EOPNOTSUPP || error == EINVAL ? 0 : error;  // a file system that cannot: it reads holes as zeros
}

void sync_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  require<IoError>(fd >= 0, "cannot open '{}': {}", path.string(), std::strerror(errno));
  const int filled = fill_holes(fd);
  if (filled != 0) {
    ::close(fd);
    throw IoError(fmt::format("cannot write '{}': {}; free some disk space", path.string(), std::strerror(filled)));
  }
  const bool synced = ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  require<IoError>(synced, "cannot sync '{}': {}", path.string(), std::strerror(error));
}

/// Hands the first `items` items of a spool to take(first, bytes, count), some at a time.
template <class Take>
void read_spool(const std::filesystem::path& spool, uint64_t items, uint64_t item_bytes, const Take& take) {
  constexpr uint64_t kAtOnce = 16 * kBlockTokens;
  std::ifstream in(spool, std::ios::binary);
  std::vector<char> bytes(std::min(kAtOnce, items) * item_bytes);
  for (uint64_t first = 0; first < items; first += kAtOnce) {
    const uint64_t count = std::min(kAtOnce, items - first);
    in.read(bytes.data(), static_cast<std::streamsize>(count * item_bytes));
    require<IoError>(in.good(), "cannot read '{}' to its end, or it changed while it was written", spool.string());
    take(first, bytes.data(), count);
  }
}

/// Copies the spooled ids to the dataset, and gives the hash of each block.
std::vector<uint64_t> copy_ids(const std::filesystem::path& spool, uint64_t item_bytes, uint64_t tokens,
                               Hdf5Writer& file) {
  std::vector<uint64_t> hashes;
  read_spool(spool, tokens, item_bytes, [&](uint64_t first, const char* ids, uint64_t count) {
    for (uint64_t block = 0; block < count; block += kBlockTokens)
      hashes.push_back(xxh3_64(ids + block * item_bytes, std::min(kBlockTokens, count - block) * item_bytes));
    file.write("tokens", first, ids, count);
  });
  return hashes;
}

uint64_t hash_of_offsets(const std::filesystem::path& spool, uint64_t count) {
  Xxh3Short hash;
  read_spool(spool, count, sizeof(uint64_t),
             [&](uint64_t, const char* offsets, uint64_t some) { hash.update(offsets, some * sizeof(uint64_t)); });
  return hash.value();
}

}  // namespace

void write_shard(const std::filesystem::path& path, const ShardInfo& info, const std::filesystem::path& ids,
                 uint64_t tokens, const std::filesystem::path& offsets, uint64_t documents) {
  Hdf5Writer file(path);
  file.attribute("format", kShardFormat);
  file.attribute("format_version", kShardVersion);
  file.attribute("tokens", tokens);
  file.attribute("documents", documents);
  file.attribute("vocab_size", info.vocab_size);
  file.attribute("block_tokens", kBlockTokens);
  file.attribute("document_offsets_xxh3", hash_of_offsets(offsets, documents + 1));
  file.attribute("tokenizer_sha256", info.tokenizer_sha256);
  file.attribute("separator_kind", info.separator.kind_name());
  file.attribute("separator_text", info.separator.text);
  file.create_dataset("tokens", info.item_bytes() == 2 ? Hdf5Type::kUint16 : Hdf5Type::kUint32, tokens);
  file.create_dataset("document_offsets", Hdf5Type::kUint64, documents + 1);
  file.create_dataset("block_hashes", Hdf5Type::kUint64, (tokens + kBlockTokens - 1) / kBlockTokens);
  const std::vector<uint64_t> hashes = copy_ids(ids, info.item_bytes(), tokens, file);
  read_spool(offsets, documents + 1, sizeof(uint64_t), [&](uint64_t first, const char* some, uint64_t count) {
    file.write("document_offsets", first, some, count);
  });
  file.write("block_hashes", 0, hashes.data(), hashes.size());
  file.close();
  sync_file(path);
}

ManifestShard describe_shard(const std::filesystem::path& path, uint64_t expected_tokens) {
  const ShardLayout layout = read_shard_layout(path);
  const Shard shard(path, layout);
  const auto defects = shard.damaged_blocks();
  require<IoError>(defects.empty() && layout.tokens == expected_tokens, "'{}' did not reach the disk as written: {}",
                   path.string(), defects.empty() ? "its length differs" : defects[0]);
  const uint64_t id_bytes = layout.tokens * layout.info.item_bytes();
  return {.name = "",
          .bytes = shard.file().bytes().size(),
          .tokens = layout.tokens,
          .documents = layout.documents,
          .tokens_at = layout.tokens_at,
          .xxh3_128 = hash_without(shard.file(), 0, 0),
          .frame_xxh3_128 = hash_without(shard.file(), layout.tokens_at, id_bytes)};
}

}  // namespace moeut
