// All shards of a folder as one stream of tokens.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/manifest.h"
#include "data/shard.h"

namespace moeut {

/// The concatenated ids of a finished folder, in the manifest's order. Safe for any number of reading threads. Opening
/// checks the manifest, the size and the frame (everything but the ids) of each shard against it, and that all shards
/// were made with one tokenizer; ids are checked block by block when they are first read.
class TokenDataset {
 public:
  /// Throws IoError naming the file and the cure.
  static std::shared_ptr<const TokenDataset> open(const std::filesystem::path& folder);

  uint64_t tokens() const { return starts_.back(); }
  uint64_t documents() const { return first_documents_.back(); }
  int64_t vocab_size() const { return static_cast<int64_t>(manifest_.info.vocab_size); }
  const std::string& tokenizer_sha256() const { return manifest_.info.tokenizer_sha256; }
  /// Names the content: equal for equal shards wherever they lie.
  std::string fingerprint() const { return manifest_.fingerprint(); }
  const std::filesystem::path& folder() const { return folder_; }
  const std::vector<Shard>& shards() const { return shards_; }

  /// Stream position of the first token of document d <= documents(); for the last d that is tokens(). A document
  /// without tokens begins where the next one does. O(log shards).
  uint64_t document_start(uint64_t d) const;
  /// The document that the token at `position` < tokens() belongs to. O(log shards + log documents).
  uint64_t document_at(uint64_t position) const;

  /// Ids [first, first + count) of the stream; throws IoError beyond its end or in a damaged block.
  void read(uint64_t first, uint64_t count, int32_t* out) const;

 private:
  TokenDataset(std::filesystem::path folder, Manifest manifest);
  size_t shard_of(uint64_t position) const;

  std::filesystem::path folder_;
  Manifest manifest_;
  std::vector<Shard> shards_;
  std::vector<uint64_t> starts_{0};           ///< stream position of each shard's first token; the last is the total
  std::vector<uint64_t> first_documents_{0};  ///< number of each shard's first document; the last is the total
};

/// Entropy of the distribution of single ids, -Σ p ln p, in nats per token: the loss of the best model that ignores
/// context.
double unigram_entropy(const TokenDataset& dataset);

}  // namespace moeut
