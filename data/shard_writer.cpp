#include "data/shard_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/check.h"
#include "data/shard_file.h"

namespace moeut {
namespace {

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

uint64_t ShardWriter::tokens() const {
  uint64_t sum = open_.tokens;
  for (const ManifestShard& shard : closed_) sum += shard.tokens;
  return sum;
}

void ShardWriter::abandon_document() {
  if (document_tokens() == 0) return;
  open_.tokens = open_.document_start;
  if (open_.tokens > 0) return spools_->ids.cut(open_.tokens * info_.item_bytes());
  spools_.reset();
  for (const char* what : {"ids", "offsets"}) fs_.remove_all(spool_path(what));
}

/// HDF5 does not take a full disk well, and says little about it: better not to begin.
void ShardWriter::require_space_for_shard() const {
  constexpr uint64_t kFrame = 64 << 10;  // attributes, hashes of blocks, HDF5's own structures; and some more
  const uint64_t needed = spools_->ids.bytes() + spools_->offsets.bytes() + open_.tokens / kBlockTokens * 8 + kFrame;
  const uint64_t available = free_disk_space(folder_);
  require<IoError>(available >= needed,
                   "cannot write a shard of {} bytes to '{}': the disk has {} bytes left; free some disk space", needed,
                   folder_.string(), available);
}

void ShardWriter::close_shard() {
  require<Error>(document_tokens() == 0, "the last document was not ended");
  if (open_.tokens == 0) return;
  spools_->ids.close();
  spools_->offsets.close();
  const std::filesystem::path temporary = folder_ / "shard.tmp";
  fs_.remove_all(temporary);
  require_space_for_shard();
  write_shard(temporary, info_, spools_->ids.path(), open_.tokens, spools_->offsets.path(), open_.documents);
  ManifestShard shard = describe_shard(temporary, open_.tokens);
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
