// From an HDF5 file to a ShardLayout: the only place where a shard meets HDF5 when it is read.
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "data/hdf5_file.h"
#include "data/limited_child.h"
#include "data/shard.h"

namespace moeut {
namespace {

/// Length and file offset of a dataset that can be mapped; IoError if it cannot.
std::pair<uint64_t, uint64_t> mappable(const Hdf5File& file, const std::string& name, Hdf5Type type) {
  const Hdf5DatasetInfo info = file.info(name);
  require<IoError>(info.shape.size() == 1 && info.type == type && info.little_endian && !info.filtered &&
                       info.file_offset && *info.file_offset % 8 == 0,
                   "'{}': dataset '{}' is not a contiguous, uncompressed, little-endian list of {}; it was not written "
                   "by moeut-data: tokenize the text with moeut-data tokenize",
                   file.path().string(), name, hdf5_type_name(type));
  return {info.shape[0], *info.file_offset};
}

ShardLayout read_attributes(const Hdf5File& file) {
  const std::string path = file.path().string();
  require<IoError>(file.has_attribute("format") && file.string_attribute("format") == kShardFormat,
                   "'{}' is not a moeut shard; make shards with moeut-data tokenize", path);
  const uint64_t version = file.uint_attribute("format_version");
  require<IoError>(version == kShardVersion, "'{}' has shard format version {}, and this program reads version {}",
                   path, version, kShardVersion);
  ShardLayout layout;
  layout.info.vocab_size = file.uint_attribute("vocab_size");
  layout.info.tokenizer_sha256 = file.string_attribute("tokenizer_sha256");
  layout.info.separator =
      Separator::from(file.string_attribute("separator_kind"), file.string_attribute("separator_text"));
  layout.tokens = file.uint_attribute("tokens");
  layout.documents = file.uint_attribute("documents");
  layout.block_tokens = file.uint_attribute("block_tokens");
  layout.document_offsets_hash = file.uint_attribute("document_offsets_xxh3");
  require<IoError>(layout.info.vocab_size >= 1 && layout.info.vocab_size <= INT32_MAX && layout.tokens >= 1 &&
                       layout.tokens <= UINT64_MAX / 8 && layout.block_tokens >= 1 && layout.block_tokens <= (1u << 30),
                   "'{}' describes itself impossibly (vocab_size {}, tokens {}, block_tokens {}); tokenize again", path,
                   layout.info.vocab_size, layout.tokens, layout.block_tokens);
  return layout;
}

std::string to_json(const ShardLayout& layout) {
  return nlohmann::json{layout.info.vocab_size,
                        layout.info.tokenizer_sha256,
                        layout.info.separator.kind_name(),
                        layout.info.separator.text,
                        layout.tokens,
                        layout.documents,
                        layout.block_tokens,
                        layout.tokens_at,
                        layout.document_offsets_at,
                        layout.block_hashes_at,
                        layout.document_offsets_hash}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

ShardLayout from_json(const std::string& text) {
  const auto fields = nlohmann::json::parse(text);
  ShardLayout layout;
  layout.info.vocab_size = fields[0];
  layout.info.tokenizer_sha256 = fields[1];
  layout.info.separator = Separator::from(fields[2], fields[3]);
  layout.tokens = fields[4];
  layout.documents = fields[5];
  layout.block_tokens = fields[6];
  layout.tokens_at = fields[7];
  layout.document_offsets_at = fields[8];
  layout.block_hashes_at = fields[9];
  layout.document_offsets_hash = fields[10];
  return layout;
}

}  // namespace

ShardLayout read_shard_layout(const std::filesystem::path& path) {
  const Hdf5File file(path);
  ShardLayout layout = read_attributes(file);
  const Hdf5Type id_type = layout.info.item_bytes() == 2 ? Hdf5Type::kUint16 : Hdf5Type::kUint32;
  const auto [tokens, tokens_at] = mappable(file, "tokens", id_type);
  const auto [offsets, offsets_at] = mappable(file, "document_offsets", Hdf5Type::kUint64);
  const auto [hashes, hashes_at] = mappable(file, "block_hashes", Hdf5Type::kUint64);
  require<IoError>(tokens == layout.tokens && layout.documents < UINT64_MAX && offsets == layout.documents + 1 &&
                       hashes == layout.blocks(),
                   "'{}': its datasets have {} tokens, {} offsets and {} hashes, which does not fit its attributes "
                   "({} tokens, {} documents); tokenize again",
                   path.string(), tokens, offsets, hashes, layout.tokens, layout.documents);
  layout.tokens_at = tokens_at;
  layout.document_offsets_at = offsets_at;
  layout.block_hashes_at = hashes_at;
  return layout;
}

ShardLayout read_foreign_shard_layout(const std::filesystem::path& path) {
  return from_json(
      run_in_limited_child(fmt::format("'{}'", path.string()), [&] { return to_json(read_shard_layout(path)); }));
}

}  // namespace moeut
