#include "data/manifest.h"

#include <algorithm>

#include "core/check.h"
#include "core/file.h"
#include "data/hash.h"
#include "data/json.h"

namespace moeut {
namespace {

constexpr uint64_t kMaxManifestBytes = uint64_t{256} << 20;
constexpr const char* kFormat = "moeut-manifest";
constexpr int kFormatVersion = 1;
constexpr const char* kHashField = "manifest_xxh3_128";

std::string hash_of(const std::string& text) {
  Xxh3 hash;
  hash.update(text.data(), text.size());
  return hash.hex();
}

// Members in the order of their names: one text for one content.
Json to_json(const ManifestShard& shard) {
  return Json::Object{
      {"bytes", shard.bytes},      {"documents", shard.documents}, {"frame_xxh3_128", shard.frame_xxh3_128},
      {"name", shard.name},        {"tokens", shard.tokens},       {"tokens_at", shard.tokens_at},
      {"xxh3_128", shard.xxh3_128}};
}

Json::Object to_json(const Manifest& manifest) {
  Json::Array shards;
  for (const ManifestShard& shard : manifest.shards) shards.push_back(to_json(shard));
  Json::Object json;
  const auto add_if_any = [&](const char* name, uint64_t count) {
    if (count > 0) json.emplace_back(name, count);
  };
  const auto add = [&](const char* name, Json value) { json.emplace_back(name, std::move(value)); };
  add_if_any("bad_records", manifest.bad_records);
  add_if_any("damaged_inputs", manifest.damaged_inputs);
  add("documents", manifest.documents());
  add("empty_documents", manifest.empty_documents);
  add("format", kFormat);
  add("format_version", kFormatVersion);
  add_if_any("long_documents", manifest.long_documents);
  add("part", manifest.part);
  add("separator_kind", manifest.info.separator.kind_name());
  add("separator_text", manifest.info.separator.text);
  add("shards", std::move(shards));
  add("split_documents", manifest.split_documents);
  add("text_bytes", manifest.text_bytes);
  add("tokenizer_sha256", manifest.info.tokenizer_sha256);
  add("tokens", manifest.tokens());
  add("validation_ratio", manifest.validation_ratio);
  add("vocab_size", manifest.info.vocab_size);
  return json;
}

ManifestShard shard_from(const Json& json) {
  ManifestShard shard{.name = json.at("name").as_string(),
                      .bytes = json.at("bytes").as_uint64(),
                      .tokens = json.at("tokens").as_uint64(),
                      .documents = json.at("documents").as_uint64(),
                      .tokens_at = json.at("tokens_at").as_uint64(),
                      .xxh3_128 = json.at("xxh3_128").as_string(),
                      .frame_xxh3_128 = json.at("frame_xxh3_128").as_string()};
  require<IoError>(std::filesystem::path(shard.name).filename() == shard.name && !shard.name.empty(),
                   "it names '{}', which is not a file of its own folder", shard.name);
  return shard;
}

Manifest manifest_from(const Json& json) {
  const auto count_if_any = [&](const char* name) {
    const Json* count = json.find(name);
    return count == nullptr ? 0 : count->as_uint64();
  };
  Manifest manifest;
  manifest.bad_records = count_if_any("bad_records");
  manifest.long_documents = count_if_any("long_documents");
  manifest.damaged_inputs = count_if_any("damaged_inputs");
  manifest.info.vocab_size = json.at("vocab_size").as_uint64();
  manifest.info.tokenizer_sha256 = json.at("tokenizer_sha256").as_string();
  manifest.info.separator =
      Separator::from(json.at("separator_kind").as_string(), json.at("separator_text").as_string());
  manifest.part = json.at("part").as_string();
  manifest.validation_ratio = json.at("validation_ratio").as_string();
  manifest.empty_documents = json.at("empty_documents").as_uint64();
  manifest.split_documents = json.at("split_documents").as_uint64();
  manifest.text_bytes = json.at("text_bytes").as_uint64();
  for (const Json& shard : json.at("shards").as_array()) manifest.shards.push_back(shard_from(shard));
  return manifest;
}

/// A manifest of a version that this program knows, or an error that says what it is instead.
void require_manifest(const Json& json, const std::filesystem::path& path) {
  const Json* format = json.is_object() ? json.find("format") : nullptr;
  require<IoError>(format != nullptr && format->is_string() && format->as_string() == kFormat,
                   "'{}' is not a manifest of moeut shards", path.string());
  const Json* version = json.find("format_version");
  require<IoError>(version != nullptr && version->dump() == std::to_string(kFormatVersion),
                   "'{}' has a format version that this program does not know", path.string());
}

[[noreturn]] void throw_damaged(const std::filesystem::path& path, const char* how) {
  throw IoError(fmt::format("'{}' is damaged: {}; tokenize again or restore it", path.string(), how));
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
  Json::Object members = to_json(*this);
  const auto place =
      std::find_if(members.begin(), members.end(), [](const auto& member) { return member.first > kHashField; });
  members.insert(place, {kHashField, hash_of(Json(members).dump(2))});
  return Json(std::move(members)).dump(2) + "\n";
}

Manifest Manifest::parse(const std::string& text, const std::filesystem::path& path) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const IoError& error) {
    throw_damaged(path, error.what());
  }
  require_manifest(json, path);
  Manifest manifest;
  try {
    manifest = manifest_from(json);
  } catch (const IoError& error) {
    throw_damaged(path, error.what());
  }
  if (manifest.render() != text) throw_damaged(path, "it does not match its own hash");
  return manifest;
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

namespace {

void hash_range(const MappedFile& file, uint64_t begin, uint64_t end, Xxh3& hash) {
  constexpr uint64_t kAtOnce = 16 << 20;  // bytes: a shard may be larger than the memory that is to be used
  for (; begin < end; begin += std::min(kAtOnce, end - begin)) {
    hash.update(file.bytes().data() + begin, std::min(kAtOnce, end - begin));
    file.forget();
  }
}

}  // namespace

std::string hash_without(const MappedFile& file, uint64_t hole_at, uint64_t hole_bytes) {
  const auto bytes = file.bytes();
  const uint64_t begin = std::min<uint64_t>(hole_at, bytes.size());
  const uint64_t end = begin + std::min<uint64_t>(hole_bytes, bytes.size() - begin);
  Xxh3 hash;
  hash_range(file, 0, begin, hash);
  hash_range(file, end, bytes.size(), hash);
  return hash.hex();
}

}  // namespace moeut
