#include "core/build_config.h"
#include "core/check.h"
#include "data/hash.h"
#include "trainer/checkpoint.h"
#include "trainer/checkpoint_layout.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

/// Creates folder/name of `bytes` bytes, lets `write` stream them, and returns once they are on the disk.
CheckpointManifest::File write_hashed(FileSystem& fs, const stdfs::path& folder, const char* name, uint64_t bytes,
                                      const std::function<void(const ByteSink&)>& write) {
  const auto file = fs.create(folder / name, bytes);
  Xxh3 hash;
  uint64_t written = 0;
  write([&](const void* data, size_t size) {
    hash.update(data, size);
    file->write(data, size);
    written += size;
  });
  file->sync();
  file->close();
  return {name, written, hash.hex()};
}

CheckpointManifest::File write_tensors(FileSystem& fs, const stdfs::path& folder, const char* name,
                                       const std::vector<TensorBytes>& tensors) {
  return write_hashed(fs, folder, name, safetensors_bytes(tensors),
                      [&](const ByteSink& sink) { write_safetensors(tensors, sink); });
}

CheckpointManifest::File write_text(FileSystem& fs, const stdfs::path& folder, const char* name,
                                    const std::string& text) {
  return write_hashed(fs, folder, name, text.size(), [&](const ByteSink& sink) { sink(text.data(), text.size()); });
}

}  // namespace

uint64_t checkpoint_bytes(const CheckpointContent& content) {
  const uint64_t ema = content.ema.empty() ? 0 : safetensors_bytes(content.ema);
  return safetensors_bytes(content.model) + safetensors_bytes(content.optimizer) + ema + content.state_json.size() +
         content.config_yaml.size();
}

void CheckpointStore::check_space(const CheckpointContent& content) const {
  constexpr uint64_t kSlack = 1 << 20;  // manifest, LATEST, and what the file system keeps about the new files
  const uint64_t wanted = checkpoint_bytes(content) + kSlack;
  const uint64_t free = free_disk_space(folder_);
  require<IoError>(
      free >= wanted,
      "checkpoint of step {}: it takes {} bytes, but '{}' has room for {} only: free some disk space, lower "
      "checkpoint.keep_last or move run.dir",
      content.step, wanted, folder_.string(), free);
}

void CheckpointStore::write_folder(const CheckpointContent& content, const stdfs::path& folder) {
  fs_.make_directories(folder);
  CheckpointManifest manifest;
  manifest.step = content.step;
  manifest.world_size = content.world_size;
  manifest.written_by = fmt::format("moeut {}", kVersion);
  manifest.config_hash = content.config_hash;
  manifest.tokenizer_sha256 = content.tokenizer_sha256;
  manifest.data_fingerprint = content.data_fingerprint;
  manifest.validation_loss = content.validation_loss;
  manifest.files = {write_tensors(fs_, folder, kModelFile, content.model),
                    write_tensors(fs_, folder, kOptimizerFile, content.optimizer),
                    write_text(fs_, folder, kStateFile, content.state_json),
                    write_text(fs_, folder, kConfigFile, content.config_yaml)};
  if (!content.ema.empty()) manifest.files.push_back(write_tensors(fs_, folder, kEmaFile, content.ema));
  const std::string text = manifest.to_text();
  CheckpointManifest::parse(text, "the manifest to be written");  // a field that no reader would accept shows now
  write_text(fs_, folder, kManifestFile, text);
  fs_.sync_directory(folder);
}

}  // namespace moeut
