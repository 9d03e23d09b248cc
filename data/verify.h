// Is every shard whole?
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace moeut {

struct VerifyReport {
  std::vector<std::string> defects;  ///< one line each, beginning with the file
  uint64_t shards = 0, tokens = 0, documents = 0;
};

/// Checks each path: a folder (its manifest, the hash of every file, every block, boundaries, ids; also its train and
/// validation parts) or a single shard (by its own hashes, and by the manifest beside it if there is one). Foreign
/// files are met by HDF5 in a limited child only. Defects are reported, not thrown.
VerifyReport verify_shards(const std::vector<std::filesystem::path>& paths);

/// The shard files that a path of the command line means: itself if it is a file; for a folder those of its manifest,
/// else those named shard-*.h5, then those of its parts. Throws IoError if there are none.
std::vector<std::filesystem::path> shards_of(const std::filesystem::path& path);

}  // namespace moeut
