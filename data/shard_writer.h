// Writes the shards and the manifest of one folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "core/file.h"
#include "data/manifest.h"

namespace moeut {

/// Collects documents into shards. A shard is closed after the first document that brings it to `shard_tokens` or more,
/// so a document always lies in one shard. Ids wait in a spool file beside the shard until their number is known:
/// memory stays bounded. Every file is synced before it is renamed to its name; the manifest is written last, by
/// finish().
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& folder, const ShardInfo& info, uint64_t shard_tokens);
  ShardWriter(ShardWriter&&) = delete;
  ~ShardWriter();

  /// Ids of the document that is being written. Throws IoError for an id outside the vocabulary.
  void append(std::span<const int32_t> ids);
  /// Ends the document; one without ids leaves no trace.
  void end_document();
  /// Ids of the unfinished document.
  uint64_t document_tokens() const { return tokens_ - document_start(); }

  /// Writes what is left and manifest.json, completed with `manifest`'s counts; nothing may be appended afterwards.
  Manifest finish(Manifest manifest);

 private:
  uint64_t document_start() const { return offsets_.back(); }
  void close_shard();

  std::filesystem::path folder_;
  ShardInfo info_;
  uint64_t shard_tokens_;
  std::unique_ptr<WritableFile> spool_;
  uint64_t tokens_ = 0;               ///< in the open shard
  std::vector<uint64_t> offsets_{0};  ///< of the open shard
  std::vector<ManifestShard> shards_;
  std::vector<std::byte> packed_;
};

}  // namespace moeut
