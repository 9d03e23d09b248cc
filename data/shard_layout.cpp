// From an HDF5 file to a ShardLayout: the only place where a shard meets HDF5 when it is read.
#include "core/check.h"
#include "data/hdf5_file.h"
#include "data/json.h"
#include "data/limited_child.h"
#include "data/shard.h"
#include "data/utf8.h"

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
  for (const std::string& text : {layout.info.tokenizer_sha256, layout.info.separator.text}) {
    require<IoError>(first_invalid_utf8(text) == text.size(),
                     "'{}' describes itself in text that is not UTF-8; tokenize again", path);
  }
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
  return Json(Json::Array{layout.info.vocab_size, layout.info.tokenizer_sha256, layout.info.separator.kind_name(),
                          layout.info.separator.text, layout.tokens, layout.documents, layout.block_tokens,
                          layout.tokens_at, layout.document_offsets_at, layout.block_hashes_at,
                          layout.document_offsets_hash})
      .dump();
}

ShardLayout from_json(const std::string& text) {
  const Json parsed = Json::parse(text);
  const Json::Array& fields = parsed.as_array();
  ShardLayout layout;
  layout.info.vocab_size = fields.at(0).as_uint64();
  layout.info.tokenizer_sha256 = fields.at(1).as_string();
  layout.info.separator = Separator::from(fields.at(2).as_string(), fields.at(3).as_string());
  layout.tokens = fields.at(4).as_uint64();
  layout.documents = fields.at(5).as_uint64();
  layout.block_tokens = fields.at(6).as_uint64();
  layout.tokens_at = fields.at(7).as_uint64();
  layout.document_offsets_at = fields.at(8).as_uint64();
  layout.block_hashes_at = fields.at(9).as_uint64();
  layout.document_offsets_hash = fields.at(10).as_uint64();
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
