#include "data/dataset.h"

#include <algorithm>
#include <cmath>

#include "core/check.h"

namespace moeut {
namespace {

/// Checks the file against the manifest before HDF5 sees it.
Shard open_shard(const std::filesystem::path& path, const ManifestShard& expected, const ShardInfo& info) {
  require<IoError>(std::filesystem::exists(path), "shard '{}' is missing; restore it or run moeut-data tokenize again",
                   path.string());
  const MappedFile file(path);
  require<IoError>(
      file.bytes().size() == expected.bytes,
      "shard '{}' has {} bytes where the manifest says {}: it was truncated or replaced; restore it or run "
      "moeut-data tokenize again",
      path.string(), file.bytes().size(), expected.bytes);
  require<IoError>(
      expected.tokens <= expected.bytes / info.item_bytes() &&
          hash_without(file, expected.tokens_at, expected.tokens * info.item_bytes()) == expected.frame_xxh3_128,
      "shard '{}' does not match the manifest: it is damaged; restore it or run moeut-data tokenize again",
      path.string());
  const ShardLayout layout = read_shard_layout(path);
  require<IoError>(layout.info == info && layout.tokens == expected.tokens && layout.tokens_at == expected.tokens_at,
                   "shard '{}' was made with another tokenizer or separator than the manifest says; run moeut-data "
                   "tokenize again",
                   path.string());
  return Shard(path, layout);
}

}  // namespace

std::shared_ptr<const TokenDataset> TokenDataset::open(const std::filesystem::path& folder) {
  return std::shared_ptr<const TokenDataset>(new TokenDataset(folder, Manifest::load(folder)));
}

TokenDataset::TokenDataset(std::filesystem::path folder, Manifest manifest)
    : folder_(std::move(folder)), manifest_(std::move(manifest)) {
  require<IoError>(!manifest_.shards.empty(), "'{}' lists no shards; run moeut-data tokenize again",
                   (folder_ / kManifestName).string());
  shards_.reserve(manifest_.shards.size());
  for (const ManifestShard& expected : manifest_.shards) {
    shards_.push_back(open_shard(folder_ / expected.name, expected, manifest_.info));
    starts_.push_back(starts_.back() + expected.tokens);
    first_documents_.push_back(first_documents_.back() + shards_.back().layout().documents);
  }
}

size_t TokenDataset::shard_of(uint64_t position) const {
  return static_cast<size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) - starts_.begin()) - 1;
}

uint64_t TokenDataset::document_start(uint64_t d) const {
  if (d >= documents()) return tokens();
  const auto after = std::upper_bound(first_documents_.begin(), first_documents_.end(), d);
  const auto shard = static_cast<size_t>(after - first_documents_.begin()) - 1;
  return starts_[shard] + shards_[shard].document_offset(d - first_documents_[shard]);
}

uint64_t TokenDataset::document_at(uint64_t position) const {
  const size_t shard = shard_of(position);
  return first_documents_[shard] + shards_[shard].document_at(position - starts_[shard]);
}

void TokenDataset::read(uint64_t first, uint64_t count, int32_t* out) const {
  require<IoError>(first <= tokens() && count <= tokens() - first,
                   "'{}': tokens {} to {} were asked for, but it holds {}", folder_.string(), first, first + count,
                   tokens());
  for (size_t shard = shard_of(first); count > 0; ++shard) {
    const uint64_t within = first - starts_[shard];
    const uint64_t here = std::min(count, starts_[shard + 1] - first);
    shards_[shard].read(within, here, out);
    first += here;
    out += here;
    count -= here;
  }
}

double unigram_entropy(const TokenDataset& dataset) {
  std::vector<uint64_t> counts(static_cast<size_t>(dataset.vocab_size()));
  std::vector<int32_t> ids(1 << 16);
  for (uint64_t at = 0; at < dataset.tokens(); at += ids.size()) {
    const uint64_t count = std::min<uint64_t>(ids.size(), dataset.tokens() - at);
    dataset.read(at, count, ids.data());
    for (uint64_t i = 0; i < count; ++i) ++counts[static_cast<size_t>(ids[i])];
  }
  double entropy = 0;
  for (const uint64_t count : counts) {
    const double p = static_cast<double>(count) / static_cast<double>(dataset.tokens());
    if (count > 0) entropy -= p * std::log(p);
  }
  return entropy;
}

}  // namespace moeut
