#include "trainer/checkpoint_manifest.h"

#include "core/check.h"
#include "data/hash.h"
#include "data/json.h"

namespace moeut {
namespace {

constexpr std::string_view kFormat = "moeut-checkpoint";
constexpr uint64_t kFormatVersion = 1;
constexpr const char* kOwnHash = "manifest_xxh3_128";
constexpr JsonLimits kLimits{.max_depth = 4, .max_values = 10'000};

/// The canonical text: `fields`, then the hash of their canonical text.
std::string seal(Json::Object fields) {
  const std::string body = Json(fields).dump();
  Xxh3 hash;
  hash.update(body.data(), body.size());
  fields.emplace_back(kOwnHash, hash.hex());
  return Json(std::move(fields)).dump(2) + "\n";
}

Json parse_text(std::string_view text) {
  try {
    return Json::parse(text, kLimits);
  } catch (const IoError& error) {
    throw IoError(fmt::format("it is damaged: {}", error.what()));
  }
}

/// The fields without the hash, once the text is known to be what seal() wrote.
Json::Object unseal(std::string_view text) {
  Json::Object fields = parse_text(text).as_object();
  require<IoError>(!fields.empty() && fields.back().first == kOwnHash, "its own hash is missing");
  fields.pop_back();
  require<IoError>(seal(fields) == text, "its own hash does not fit: it was damaged or edited");
  return fields;
}

bool is_plain_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.front() != '.' && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

CheckpointManifest::File file_of(const std::string& name, const Json& json) {
  require<IoError>(is_plain_name(name), "'{}' is not the name of a file in the checkpoint's folder", name);
  return {name, json.at("bytes").as_uint64(), json.at("xxh3_128").as_string()};
}

CheckpointManifest from_fields(Json::Object fields) {
  const Json json(std::move(fields));
  require<IoError>(json.at("format").as_string() == kFormat, "it is no manifest of a checkpoint");
  const uint64_t version = json.at("format_version").as_uint64();
  require<IoError>(version == kFormatVersion, "format version {}, this program reads {}: use the program that wrote it",
                   version, kFormatVersion);
  CheckpointManifest manifest;
  manifest.step = json.at("step").as_uint64();
  manifest.world_size = json.at("world_size").as_uint64();
  manifest.written_by = json.at("written_by").as_string();
  manifest.config_hash = json.at("config_hash").as_string();
  manifest.tokenizer_sha256 = json.at("tokenizer_sha256").as_string();
  manifest.data_fingerprint = json.at("data_fingerprint").as_string();
  if (const Json* loss = json.find("validation_loss")) manifest.validation_loss = loss->as_double();
  for (const auto& [name, entry] : json.at("files").as_object()) manifest.files.push_back(file_of(name, entry));
  return manifest;
}

}  // namespace

std::string CheckpointManifest::to_text() const {
  Json::Object listed;
  for (const File& file : files) {
    listed.emplace_back(file.name, Json::Object{{"bytes", file.bytes}, {"xxh3_128", file.xxh3_128}});
  }
  Json::Object fields{{"format", std::string(kFormat)},
                      {"format_version", kFormatVersion},
                      {"step", step},
                      {"world_size", world_size},
                      {"written_by", written_by},
                      {"config_hash", config_hash},
                      {"tokenizer_sha256", tokenizer_sha256},
                      {"data_fingerprint", data_fingerprint}};
  if (validation_loss) fields.emplace_back("validation_loss", *validation_loss);
  fields.emplace_back("files", std::move(listed));
  return seal(std::move(fields));
}

CheckpointManifest CheckpointManifest::parse(std::string_view text, std::string_view what) {
  try {
    return from_fields(unseal(text));
  } catch (const IoError& error) {
    throw IoError(fmt::format("'{}': {}", what, error.what()));
  }
}

const CheckpointManifest::File* CheckpointManifest::find(std::string_view name) const {
  for (const File& file : files) {
    if (file.name == name) return &file;
  }
  return nullptr;
}

}  // namespace moeut
