#include "data/shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/check.h"
#include "data/hash.h"
#include "data/hdf5_file.h"

namespace moeut {
namespace {

constexpr const char* kSpoolName = "ids.spool";

/// HDF5 writes through its own descriptor: open the finished file once more to put it on the disk.
void sync_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require<IoError>(fd >= 0, "cannot open '{}': {}", path.string(), std::strerror(errno));
  const bool synced = ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  require<IoError>(synced, "cannot sync '{}': {}", path.string(), std::strerror(error));
}

std::vector<uint64_t> hash_blocks(std::span<const std::byte> ids, uint64_t item_bytes) {
  std::vector<uint64_t> hashes;
  const size_t block = kBlockTokens * item_bytes;
  for (size_t at = 0; at < ids.size(); at += block)
    hashes.push_back(xxh3_64(ids.data() + at, std::min(block, ids.size() - at)));
  return hashes;
}

void write_shard(const std::filesystem::path& path, const ShardInfo& info, const std::vector<uint64_t>& offsets,
                 std::span<const std::byte> ids) {
  const uint64_t tokens = ids.size() / info.item_bytes();
  const std::vector<uint64_t> hashes = hash_blocks(ids, info.item_bytes());
  Hdf5Writer file(path);
  file.attribute("format", kShardFormat);
  file.attribute("format_version", kShardVersion);
  file.attribute("tokens", tokens);
  file.attribute("documents", offsets.size() - 1);
  file.attribute("vocab_size", info.vocab_size);
  file.attribute("block_tokens", kBlockTokens);
  file.attribute("document_offsets_xxh3", xxh3_64(offsets.data(), offsets.size() * sizeof offsets[0]));
  file.attribute("tokenizer_sha256", info.tokenizer_sha256);
  file.attribute("separator_kind", info.separator.kind_name());
  file.attribute("separator_text", info.separator.text);
  file.create_dataset("tokens", info.item_bytes() == 2 ? Hdf5Type::kUint16 : Hdf5Type::kUint32, tokens);
  file.create_dataset("document_offsets", Hdf5Type::kUint64, offsets.size());
  file.create_dataset("block_hashes", Hdf5Type::kUint64, hashes.size());
  file.write("tokens", 0, ids.data(), tokens);
  file.write("document_offsets", 0, offsets.data(), offsets.size());
  file.write("block_hashes", 0, hashes.data(), hashes.size());
  file.close();
  sync_file(path);
}

/// Reads the finished file back, so that the manifest names what is on the disk and not what was meant.
ManifestShard describe(const std::filesystem::path& path, uint64_t expected_tokens) {
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

template <class T>
void pack(std::span<const int32_t> ids, std::vector<std::byte>& out) {
  out.resize(ids.size() * sizeof(T));
  for (size_t i = 0; i < ids.size(); ++i) {
    const T id = static_cast<T>(ids[i]);
    std::memcpy(out.data() + i * sizeof id, &id, sizeof id);
  }
}

}  // namespace

ShardWriter::ShardWriter(const std::filesystem::path& folder, const ShardInfo& info, uint64_t shard_tokens)
    : folder_(folder), info_(info), shard_tokens_(std::max<uint64_t>(shard_tokens, 1)) {
  FileSystem::posix().make_directories(folder);
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::append(std::span<const int32_t> ids) {
  if (ids.empty()) return;
  for (const int32_t id : ids)
    require<IoError>(id >= 0 && static_cast<uint64_t>(id) < info_.vocab_size, "id {} is outside the vocabulary of {}",
                     id, info_.vocab_size);
  if (!spool_) spool_ = FileSystem::posix().create(folder_ / kSpoolName);
  info_.item_bytes() == 2 ? pack<uint16_t>(ids, packed_) : pack<uint32_t>(ids, packed_);
  spool_->write(packed_.data(), packed_.size());
  tokens_ += ids.size();
}

void ShardWriter::end_document() {
  if (document_tokens() == 0) return;
  offsets_.push_back(tokens_);
  if (tokens_ >= shard_tokens_) close_shard();
}

void ShardWriter::close_shard() {
  FileSystem& fs = FileSystem::posix();
  spool_->close();
  spool_.reset();
  const std::filesystem::path spool = folder_ / kSpoolName, temporary = folder_ / "shard.tmp";
  fs.remove_all(temporary);
  {
    const MappedFile ids(spool);
    require<IoError>(ids.bytes().size() == tokens_ * info_.item_bytes(), "'{}' changed while it was written",
                     spool.string());
    write_shard(temporary, info_, offsets_, ids.bytes());
  }
  ManifestShard shard = describe(temporary, tokens_);
  shard.name = fmt::format("shard-{:05}.h5", shards_.size());
  fs.rename(temporary, folder_ / shard.name);
  fs.remove_all(spool);
  shards_.push_back(std::move(shard));
  tokens_ = 0;
  offsets_.assign(1, 0);
}

Manifest ShardWriter::finish(Manifest manifest) {
  require<Error>(document_tokens() == 0, "the last document was not ended");
  if (tokens_ > 0) close_shard();
  manifest.info = info_;
  manifest.shards = shards_;
  FileSystem::posix().sync_directory(folder_);
  write_file_atomically(FileSystem::posix(), folder_ / kManifestName, manifest.render());
  return manifest;
}

}  // namespace moeut
