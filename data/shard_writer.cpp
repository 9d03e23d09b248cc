#include "data/shard_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "core/check.h"
#include "data/hash.h"
#include "data/hdf5_file.h"

namespace moeut {
namespace {

/// HDF5 writes through its own descriptor: open the finished file once more to put it on the disk.
void sync_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  require<IoError>(fd >= 0, "cannot open '{}': {}", path.string(), std::strerror(errno));
  const bool synced = ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  require<IoError>(synced, "cannot sync '{}': {}", path.string(), std::strerror(error));
}

/// Copies the spooled ids to the dataset a few blocks at a time, and gives the hash of each block.
std::vector<uint64_t> copy_ids(const std::filesystem::path& spool, uint64_t item_bytes, uint64_t tokens,
                               Hdf5Writer& file) {
  constexpr uint64_t kBlocksAtOnce = 16;
  std::ifstream in(spool, std::ios::binary);
  std::vector<char> bytes(kBlocksAtOnce * kBlockTokens * item_bytes);
  std::vector<uint64_t> hashes;
  for (uint64_t at = 0; at < tokens; at += kBlocksAtOnce * kBlockTokens) {
    const uint64_t count = std::min(kBlocksAtOnce * kBlockTokens, tokens - at);
    in.read(bytes.data(), static_cast<std::streamsize>(count * item_bytes));
    require<IoError>(in.good(), "cannot read '{}' to its end, or it changed while it was written", spool.string());
    for (uint64_t block = 0; block < count; block += kBlockTokens)
      hashes.push_back(xxh3_64(bytes.data() + block * item_bytes, std::min(kBlockTokens, count - block) * item_bytes));
    file.write("tokens", at, bytes.data(), count);
  }
  return hashes;
}

void write_shard(const std::filesystem::path& path, const ShardInfo& info, const std::filesystem::path& ids,
                 uint64_t tokens, std::span<const std::byte> offsets) {
  const uint64_t boundaries = offsets.size() / sizeof(uint64_t);
  Hdf5Writer file(path);
  file.attribute("format", kShardFormat);
  file.attribute("format_version", kShardVersion);
  file.attribute("tokens", tokens);
  file.attribute("documents", boundaries - 1);
  file.attribute("vocab_size", info.vocab_size);
  file.attribute("block_tokens", kBlockTokens);
  file.attribute("document_offsets_xxh3", xxh3_64(offsets.data(), offsets.size()));
  file.attribute("tokenizer_sha256", info.tokenizer_sha256);
  file.attribute("separator_kind", info.separator.kind_name());
  file.attribute("separator_text", info.separator.text);
  file.create_dataset("tokens", info.item_bytes() == 2 ? Hdf5Type::kUint16 : Hdf5Type::kUint32, tokens);
  file.create_dataset("document_offsets", Hdf5Type::kUint64, boundaries);
  file.create_dataset("block_hashes", Hdf5Type::kUint64, (tokens + kBlockTokens - 1) / kBlockTokens);
  const std::vector<uint64_t> hashes = copy_ids(ids, info.item_bytes(), tokens, file);
  file.write("document_offsets", 0, offsets.data(), boundaries);
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

ShardWriter::ShardWriter(const std::filesystem::path& folder, const ShardInfo& info, uint64_t shard_tokens,
                         FileSystem& fs)
    : folder_(folder), info_(info), shard_tokens_(std::max<uint64_t>(shard_tokens, 1)), fs_(fs) {
  fs_.make_directories(folder);
}

ShardWriter::ShardWriter(const std::filesystem::path& folder, const ShardInfo& info, uint64_t shard_tokens,
                         std::vector<ManifestShard> closed, const OpenShard& open, FileSystem& fs)
    : ShardWriter(folder, info, shard_tokens, fs) {
  closed_ = std::move(closed);
  open_ = open;
  std::vector<std::filesystem::path> kept;
  for (const ManifestShard& shard : closed_) {
    kept.push_back(folder_ / shard.name);
    std::error_code error;
    require<IoError>(std::filesystem::file_size(kept.back(), error) == shard.bytes, "'{}' is not as it was written",
                     kept.back().string());
  }
  if (open_.tokens > 0) {
    kept.push_back(spool_path("ids"));
    kept.push_back(spool_path("offsets"));
    spools_.emplace(Spool(kept.end()[-2], open_.tokens * info_.item_bytes(), fs_),
                    Spool(kept.end()[-1], (open_.documents + 1) * sizeof(uint64_t), fs_));
  }
  remove_others(kept);
}

void ShardWriter::remove_others(const std::vector<std::filesystem::path>& kept) {
  std::vector<std::filesystem::path> others;
  for (const auto& entry : std::filesystem::directory_iterator(folder_))
    if (std::find(kept.begin(), kept.end(), entry.path()) == kept.end()) others.push_back(entry.path());
  for (const auto& path : others) fs_.remove_all(path);
}

std::filesystem::path ShardWriter::spool_path(const char* what) const {
  return folder_ / fmt::format("{}-{:05}.spool", what, closed_.size());
}

void ShardWriter::open_spools() {
  spools_.emplace(Spool(spool_path("ids"), fs_), Spool(spool_path("offsets"), fs_));
  names_changed_ = true;
  const uint64_t first = 0;
  spools_->offsets.append(&first, sizeof first);
}

void ShardWriter::append(std::span<const int32_t> ids) {
  if (ids.empty()) return;
  for (const int32_t id : ids)
    require<IoError>(id >= 0 && static_cast<uint64_t>(id) < info_.vocab_size, "id {} is outside the vocabulary of {}",
                     id, info_.vocab_size);
  if (!spools_) open_spools();
  info_.item_bytes() == 2 ? pack<uint16_t>(ids, packed_) : pack<uint32_t>(ids, packed_);
  spools_->ids.append(packed_.data(), packed_.size());
  open_.tokens += ids.size();
}

void ShardWriter::end_document() {
  if (document_tokens() == 0) return;
  open_.document_start = open_.tokens;
  ++open_.documents;
  spools_->offsets.append(&open_.document_start, sizeof open_.document_start);
  if (open_.tokens >= shard_tokens_) close_shard();
}

void ShardWriter::close_shard() {
  require<Error>(document_tokens() == 0, "the last document was not ended");
  if (open_.tokens == 0) return;
  spools_->ids.close();
  spools_->offsets.close();
  const std::filesystem::path temporary = folder_ / "shard.tmp";
  fs_.remove_all(temporary);
  {
    const MappedFile offsets(spools_->offsets.path());
    require<IoError>(offsets.bytes().size() == spools_->offsets.bytes(), "'{}' changed while it was written",
                     spools_->offsets.path().string());
    write_shard(temporary, info_, spools_->ids.path(), open_.tokens, offsets.bytes());
  }
  ManifestShard shard = describe(temporary, open_.tokens);
  shard.name = fmt::format("shard-{:05}.h5", closed_.size());
  fs_.rename(temporary, folder_ / shard.name);
  names_changed_ = true;
  closed_spools_.insert(closed_spools_.end(), {spools_->ids.path(), spools_->offsets.path()});
  closed_.push_back(std::move(shard));
  spools_.reset();
  open_ = {};
}

OpenShard ShardWriter::sync() {
  if (spools_) {
    spools_->ids.sync();
    spools_->offsets.sync();
  }
  if (std::exchange(names_changed_, false)) fs_.sync_directory(folder_);
  return open_;
}

void ShardWriter::drop_closed_spools() {
  for (const auto& spool : closed_spools_) fs_.remove_all(spool);
  closed_spools_.clear();
}

Manifest ShardWriter::finish(Manifest manifest) {
  close_shard();
  manifest.info = info_;
  manifest.shards = closed_;
  sync();
  write_file_atomically(fs_, folder_ / kManifestName, manifest.render());
  drop_closed_spools();
  return manifest;
}

}  // namespace moeut
