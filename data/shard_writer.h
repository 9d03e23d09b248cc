// Writes the shards and the manifest of one folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "core/file.h"
#include "data/manifest.h"
#include "data/spool.h"

namespace moeut {

/// How far the shard is that is being collected.
struct OpenShard {
  uint64_t tokens = 0;          ///< those of an unfinished document included
  uint64_t documents = 0;       ///< finished ones
  uint64_t document_start = 0;  ///< first token of the unfinished document
};

/// Collects documents into shards. A shard is closed after the first document that brings it to `shard_tokens` or more,
/// so a document always lies in one shard. Ids and document offsets wait in two spool files beside the shard until
/// their number is known: memory stays bounded. Every file is synced before it is renamed to its name; the manifest is
/// written last, by finish().
class ShardWriter {
 public:
  ShardWriter(const std::filesystem::path& folder, const ShardInfo& info, uint64_t shard_tokens,
              FileSystem& fs = FileSystem::posix());
  /// Goes on from where an earlier writer of the same folder was at a sync(): `closed` and `open` are what it gave
  /// then. What that writer wrote later is removed. Throws IoError if a file is missing or too short.
  ShardWriter(const std::filesystem::path& folder, const ShardInfo& info, uint64_t shard_tokens,
              std::vector<ManifestShard> closed, const OpenShard& open, FileSystem& fs = FileSystem::posix());
  ShardWriter(ShardWriter&&) = delete;

  /// Ids of the document that is being written. Throws IoError for an id outside the vocabulary.
  void append(std::span<const int32_t> ids);
  /// Ends the document; one without ids leaves no trace.
  void end_document();
  /// Drops the ids of the unfinished document. No sync() may have come between them.
  void abandon_document();
  /// Ids in all shards, those of the unfinished document included.
  uint64_t tokens() const;
  /// Ids of the unfinished document.
  uint64_t document_tokens() const { return open_.tokens - open_.document_start; }

  /// Makes all that was appended durable. Until drop_closed_spools() a writer can go on from here, whatever happens
  /// meanwhile.
  OpenShard sync();
  const std::vector<ManifestShard>& closed() const { return closed_; }
  /// To be called when the results of a sync() are noted in a place that survives: nobody will go on from before it.
  void drop_closed_spools();

  /// Closes the open shard, after the last document.
  void close_shard();
  /// close_shard(), then manifest.json, completed with `manifest`'s counts; only the shards are left beside it.
  Manifest finish(Manifest manifest);

 private:
  /// The two spools of the open shard.
  struct Spools {
    Spool ids, offsets;
  };
  std::filesystem::path spool_path(const char* what) const;
  void open_spools();
  void require_space_for_shard() const;
  void remove_others(const std::vector<std::filesystem::path>& kept);

  std::filesystem::path folder_;
  ShardInfo info_;
  uint64_t shard_tokens_;
  FileSystem& fs_;
  std::vector<ManifestShard> closed_;
  OpenShard open_;
  std::optional<Spools> spools_;  ///< from the open shard's first id on
  bool names_changed_ = false;    ///< in the folder, since the last sync
  std::vector<std::filesystem::path> closed_spools_;
  std::vector<std::byte> packed_;
};

}  // namespace moeut
