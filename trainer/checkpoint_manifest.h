// manifest.json: what a checkpoint consists of. It is written last, so a folder without a whole one is no checkpoint.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace moeut {

/// The manifest's text ends with the XXH3-128 of its own other fields, and only the one canonical spelling is accepted:
/// a change of any byte is noticed.
struct CheckpointManifest {
  struct File {
    std::string name;
    uint64_t bytes = 0;
    std::string xxh3_128;  // 32 hexadecimal digits
  };

  uint64_t step = 0;
  uint64_t world_size = 1;  // ranks that took part; the contents do not depend on it
  std::string written_by;   // program version
  std::string config_hash;
  std::string tokenizer_sha256;
  std::string data_fingerprint;
  std::optional<double> validation_loss;  // of these weights, if they were validated; finite
  std::vector<File> files;

  std::string to_text() const;
  /// Throws IoError, which names `what`: damaged, of another format version, or naming a file outside its folder.
  static CheckpointManifest parse(std::string_view text, std::string_view what);
  /// nullptr if it is not listed.
  const File* find(std::string_view name) const;
};

}  // namespace moeut
