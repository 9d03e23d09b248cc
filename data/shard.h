// One shard: token ids with their document boundaries, in an HDF5 file that a memory map can read.
//
// Format version 1 (never changed; a new version gets a new number). Newest HDF5 file format, root group only:
//   attributes  format = "moeut-shard", format_version = 1, tokens = N, documents = D, vocab_size, block_tokens,
//               document_offsets_xxh3 (uint64), tokenizer_sha256 (64 characters), separator_kind ("none", "eos" or
//               "text"), separator_text (padded with zero bytes)
//   tokens            [N] uint16 if vocab_size <= 65536, else uint32; contiguous; N >= 1
//   document_offsets  [D + 1] uint64: document d is tokens[offset d, offset d+1), its separator included; 0 first, N
//   last block_hashes      [ceil(N / block_tokens)] uint64: XXH3-64 of each block's bytes
// All little-endian, 8-byte aligned, unfiltered; no links, external storage or virtual datasets.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/mapped_file.h"

namespace moeut {

inline constexpr const char* kShardFormat = "moeut-shard";
inline constexpr uint64_t kShardVersion = 1;
inline constexpr uint64_t kBlockTokens = 65536;

/// What ends every document.
struct Separator {
  enum class Kind { kNone, kEos, kText };
  Kind kind = Kind::kNone;
  std::string text;  ///< for kText: appended to the document before tokenisation

  std::string kind_name() const;
  /// From the names above; IoError for another name.
  static Separator from(const std::string& kind, const std::string& text);
  bool operator==(const Separator&) const = default;
};

/// What the ids mean: equal for all shards of a folder.
struct ShardInfo {
  uint64_t vocab_size = 0;
  std::string tokenizer_sha256;
  Separator separator;

  uint64_t item_bytes() const { return vocab_size <= 65536 ? 2 : 4; }
  bool operator==(const ShardInfo&) const = default;
};

/// Where things lie in a shard's file: all that is needed to read it without HDF5.
struct ShardLayout {
  ShardInfo info;
  uint64_t tokens = 0, documents = 0, block_tokens = 0;
  uint64_t tokens_at = 0, document_offsets_at = 0, block_hashes_at = 0;  ///< file offsets in bytes
  uint64_t document_offsets_hash = 0;

  uint64_t blocks() const { return tokens / block_tokens + (tokens % block_tokens != 0); }
};

/// Reads and checks the structure through HDF5. Throws IoError saying what is wrong. Only for files whose frame hash
/// has been checked against a manifest; others go through the second function, which does the same in a limited child.
ShardLayout read_shard_layout(const std::filesystem::path& path);
ShardLayout read_foreign_shard_layout(const std::filesystem::path& path);

/// A mapped shard. Every block of ids is checked against its hash, and its ids against the vocabulary size, the first
/// time that one of its tokens is read. Safe for any number of reading threads.
class Shard {
 public:
  /// Throws IoError if the layout does not fit the file, or the document offsets are damaged.
  Shard(const std::filesystem::path& path, ShardLayout layout);

  const ShardLayout& layout() const { return layout_; }
  const std::filesystem::path& path() const { return path_; }

  /// Ids [first, first + count) to out; count > 0 and within the shard.
  void read(uint64_t first, uint64_t count, int32_t* out) const;
  /// Start of document d; d == documents() gives the end of the last.
  uint64_t document_offset(uint64_t d) const;
  /// The document that the token at `position` < tokens belongs to. O(log documents).
  uint64_t document_at(uint64_t position) const;

  /// One line for each damaged block; empty if all are whole.
  std::vector<std::string> damaged_blocks() const;
  const MappedFile& file() const { return file_; }

 private:
  std::string block_defect(uint64_t block) const;
  void check_document_offsets() const;
  template <class T>
  void copy(uint64_t first, uint64_t count, int32_t* out) const;

  std::filesystem::path path_;
  ShardLayout layout_;
  MappedFile file_;
  std::unique_ptr<std::atomic<bool>[]> checked_;  ///< per block
};

}  // namespace moeut
