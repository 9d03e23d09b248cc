#include <algorithm>
#include <fstream>

#include "core/check.h"
#include "data/hash.h"
#include "trainer/checkpoint.h"
#include "trainer/checkpoint_layout.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

constexpr uint64_t kMaxManifestBytes = 1 << 20;
constexpr uint64_t kMaxTextBytes = 64 << 20;  // state.json and config.yaml

const CheckpointManifest::File& listed(const CheckpointManifest& manifest, const stdfs::path& folder,
                                       const char* name) {
  const CheckpointManifest::File* file = manifest.find(name);
  require<IoError>(file != nullptr, "'{}' does not list {}", (folder / kManifestFile).string(), name);
  return *file;
}

void check_size(const stdfs::path& path, const CheckpointManifest::File& expected) {
  std::error_code error;
  require<IoError>(stdfs::is_regular_file(path, error), "'{}' is missing", path.string());
  const uint64_t bytes = stdfs::file_size(path, error);
  require<IoError>(!error && bytes == expected.bytes, "'{}' has {} bytes, the manifest says {}: it is damaged",
                   path.string(), bytes, expected.bytes);
}

void check_hash(const stdfs::path& path, const CheckpointManifest::File& expected, const std::string& found) {
  require<IoError>(found == expected.xxh3_128, "'{}' has the hash {}, the manifest says {}: it is damaged",
                   path.string(), found, expected.xxh3_128);
}

/// Reads all of the file rather than mapping it, so that a bad sector is an error here and not a signal.
void verify_file(const stdfs::path& folder, const CheckpointManifest::File& expected) {
  const stdfs::path path = folder / expected.name;
  check_size(path, expected);
  std::ifstream stream(path, std::ios::binary);
  std::vector<char> piece(std::clamp<uint64_t>(expected.bytes, 1, 1 << 20));
  Xxh3 hash;
  while (stream.read(piece.data(), static_cast<std::streamsize>(piece.size())) || stream.gcount() > 0) {
    hash.update(piece.data(), static_cast<size_t>(stream.gcount()));
  }
  require<IoError>(stream.eof(), "'{}' cannot be read to its end", path.string());
  check_hash(path, expected, hash.hex());
}

std::string verified_text(const stdfs::path& folder, const CheckpointManifest::File& expected) {
  const stdfs::path path = folder / expected.name;
  check_size(path, expected);
  std::string text = read_file(path, kMaxTextBytes);
  Xxh3 hash;
  hash.update(text.data(), text.size());
  check_hash(path, expected, hash.hex());
  return text;
}

SafetensorsFile verified_tensors(const stdfs::path& folder, const CheckpointManifest::File& expected) {
  verify_file(folder, expected);
  return SafetensorsFile::open(folder / expected.name);
}

}  // namespace

CheckpointManifest read_checkpoint_manifest(const stdfs::path& folder) {
  const stdfs::path path = folder / kManifestFile;
  std::error_code error;
  require<IoError>(stdfs::exists(path, error), "'{}' is missing: '{}' is no complete checkpoint", path.string(),
                   folder.string());
  return CheckpointManifest::parse(read_file(path, kMaxManifestBytes), path.string());
}

LoadedCheckpoint LoadedCheckpoint::open(const stdfs::path& folder) {
  return {folder, read_checkpoint_manifest(folder)};
}

LoadedCheckpoint::LoadedCheckpoint(stdfs::path folder, CheckpointManifest manifest)
    : folder_(std::move(folder)),
      manifest_(std::move(manifest)),
      state_json_(verified_text(folder_, listed(manifest_, folder_, kStateFile))),
      config_yaml_(verified_text(folder_, listed(manifest_, folder_, kConfigFile))),
      model_(verified_tensors(folder_, listed(manifest_, folder_, kModelFile))),
      optimizer_(verified_tensors(folder_, listed(manifest_, folder_, kOptimizerFile))) {
  if (const CheckpointManifest::File* file = manifest_.find(kEmaFile)) ema_ = verified_tensors(folder_, *file);
}

}  // namespace moeut
