#include "data/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/file.h"
#include "data/hash.h"

namespace moeut {
namespace {

using Json = nlohmann::json;  // keys sorted: one text for one content

constexpr uint64_t kMaxManifestBytes = uint64_t{256} << 20;
constexpr const char* kHashField = "manifest_xxh3_128";

std::string hash_of(const std::string& text) {
  Xxh3 hash;
  hash.update(text.data(), text.size());
  return hash.hex();
}

Json to_json(const ManifestShard& shard) {
  return {{"name", shard.name},
          {"bytes", shard.bytes},
          {"tokens", shard.tokens},
          {"documents", shard.documents},
          {"tokens_at", shard.tokens_at},
          {"xxh3_128", shard.xxh3_128},
          {"frame_xxh3_128", shard.frame_xxh3_128}};
}

ManifestShard shard_from(const Json& json) {
  ManifestShard shard;
  json.at("name").get_to(shard.name);
  require<IoError>(std::filesystem::path(shard.name).filename() == shard.name && !shard.name.empty(),
                   "a manifest names '{}', which is not a file of its own folder", shard.name);
  json.at("bytes").get_to(shard.bytes);
  json.at("tokens").get_to(shard.tokens);
  json.at("documents").get_to(shard.documents);
  json.at("tokens_at").get_to(shard.tokens_at);
  json.at("xxh3_128").get_to(shard.xxh3_128);
  json.at("frame_xxh3_128").get_to(shard.frame_xxh3_128);
  return shard;
}

Manifest manifest_from(const Json& json) {
  Manifest manifest;
  json.at("vocab_size").get_to(manifest.info.vocab_size);
  json.at("tokenizer_sha256").get_to(manifest.info.tokenizer_sha256);
  manifest.info.separator = Separator::from(json.at("separator_kind"), json.at("separator_text"));
  json.at("part").get_to(manifest.part);
  json.at("validation_ratio").get_to(manifest.validation_ratio);
  json.at("empty_documents").get_to(manifest.empty_documents);
  json.at("split_documents").get_to(manifest.split_documents);
  json.at("text_bytes").get_to(manifest.text_bytes);
  for (const Json& shard : json.at("shards")) manifest.shards.push_back(shard_from(shard));
  return manifest;
}

}  // namespace

uint64_t Manifest::tokens() const {
  uint64_t sum = 0;
  for (const ManifestShard& shard : shards) sum += shard.tokens;
  return sum;
}

uint64_t Manifest::documents() const {
  uint64_t sum = 0;
  for (const ManifestShard& shard : shards) sum += shard.documents;
  return sum;
}

std::string Manifest::fingerprint() const {
  Xxh3 hash;
  for (const ManifestShard& shard : shards) hash.update(shard.frame_xxh3_128.data(), shard.frame_xxh3_128.size());
  return hash.hex();
}

std::string Manifest::render() const {
  Json json = {{"format", "moeut-manifest"},
               {"format_version", 1},
               {"vocab_size", info.vocab_size},
               {"tokenizer_sha256", info.tokenizer_sha256},
               {"separator_kind", info.separator.kind_name()},
               {"separator_text", info.separator.text},
               {"part", part},
               {"validation_ratio", validation_ratio},
               {"empty_documents", empty_documents},
               {"split_documents", split_documents},
               {"text_bytes", text_bytes},
               {"tokens", tokens()},
               {"documents", documents()},
               {"shards", Json::array()}};
  for (const ManifestShard& shard : shards) json["shards"].push_back(to_json(shard));
  json[kHashField] = hash_of(json.dump(2));
  return json.dump(2) + "\n";
}

Manifest Manifest::parse(const std::string& text, const std::filesystem::path& path) {
  try {
    const Json json = Json::parse(text);
    require<IoError>(json.value("format", "") == "moeut-manifest", "'{}' is not a manifest of moeut shards",
                     path.string());
    require<IoError>(json.value("format_version", 0) == 1, "'{}' has a format version that this program does not know",
                     path.string());
    Manifest manifest = manifest_from(json);
    if (manifest.render() == text) return manifest;
  } catch (const Json::exception&) {  // the same answer as for any other damage
  }
  throw IoError(
      fmt::format("'{}' is damaged: it does not match its own hash; tokenize again or restore it", path.string()));
}

Manifest Manifest::load(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / kManifestName;
  require<IoError>(std::filesystem::exists(folder),
                   "cannot read '{}': no such file or folder; check the path, or make shards with moeut-data tokenize",
                   folder.string());
  require<IoError>(std::filesystem::is_directory(folder),
                   "'{}' is not a folder of shards; make one with moeut-data tokenize", folder.string());
  require<IoError>(!std::filesystem::exists(folder / "train" / kManifestName) || std::filesystem::exists(path),
                   "'{}' holds a train and a validation part; name '{}' or '{}'", folder.string(),
                   (folder / "train").string(), (folder / "validation").string());
  require<IoError>(std::filesystem::exists(path),
                   "'{}' has no {}: it holds no shards, or writing them was interrupted; run moeut-data tokenize",
                   folder.string(), kManifestName);
  return parse(read_file(path, kMaxManifestBytes), path);
}

std::string hash_without(const MappedFile& file, uint64_t hole_at, uint64_t hole_bytes) {
  const auto bytes = file.bytes();
  const uint64_t begin = std::min<uint64_t>(hole_at, bytes.size());
  const uint64_t end = begin + std::min<uint64_t>(hole_bytes, bytes.size() - begin);
  Xxh3 hash;
  hash.update(bytes.data(), begin);
  hash.update(bytes.data() + end, bytes.size() - end);
  return hash.hex();
}

}  // namespace moeut
