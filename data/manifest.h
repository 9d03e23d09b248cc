// manifest.json: what a finished folder of shards holds, and the hashes that prove it. A folder without one is not
// finished.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/mapped_file.h"
#include "data/shard.h"

namespace moeut {

inline constexpr const char* kManifestName = "manifest.json";

struct ManifestShard {
  std::string name;  ///< file name within the folder
  uint64_t bytes = 0, tokens = 0, documents = 0;
  uint64_t tokens_at = 0;      ///< file offset of the ids
  std::string xxh3_128;        ///< of the whole file
  std::string frame_xxh3_128;  ///< of the file without its ids, which have hashes of their own inside the frame
};

struct Manifest {
  ShardInfo info;
  std::string part = "all";  ///< "all", "train" or "validation"
  std::string validation_ratio = "0";
  uint64_t empty_documents = 0;  ///< left out: they had no ids
  uint64_t split_documents = 0;  ///< longer than max_document_bytes, so encoded in pieces
  // What was left out of the inputs (ReaderCounts); in the file only if there is any.
  uint64_t bad_records = 0, long_documents = 0, damaged_inputs = 0;
  uint64_t text_bytes = 0;
  std::vector<ManifestShard> shards;

  uint64_t tokens() const;
  uint64_t documents() const;
  /// Names the content, whatever the folder is called: XXH3-128 over the frame hashes in order.
  std::string fingerprint() const;

  /// The file's exact text; its last field is the hash of all the others.
  std::string render() const;
  /// Refuses (IoError) anything that differs in one byte from what render() would give.
  static Manifest parse(const std::string& text, const std::filesystem::path& path);
  /// Reads `folder`/manifest.json; IoError with the cure if there is none.
  static Manifest load(const std::filesystem::path& folder);
};

/// XXH3-128 of the bytes of `file` outside [hole_at, hole_at + hole_bytes).
std::string hash_without(const MappedFile& file, uint64_t hole_at, uint64_t hole_bytes);

}  // namespace moeut
