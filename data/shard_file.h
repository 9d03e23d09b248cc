// The file of one shard, written at once when its ids are known.
#pragma once

#include <cstdint>
#include <filesystem>

#include "data/manifest.h"

namespace moeut {

/// Writes a new file, in the format of shard.h, and syncs it. `ids`: a file of `tokens` ids of info.item_bytes() each;
/// `offsets`: a file of `documents` + 1 document offsets, uint64, 0 first. Both are read a few MiB at a time. Throws
/// IoError; the file is then useless.
void write_shard(const std::filesystem::path& path, const ShardInfo& info, const std::filesystem::path& ids,
                 uint64_t tokens, const std::filesystem::path& offsets, uint64_t documents);

/// Reads the finished file back, so that the manifest names what is on the disk and not what was meant; all but its
/// name. Throws IoError if that is not a whole shard of `expected_tokens`.
ManifestShard describe_shard(const std::filesystem::path& path, uint64_t expected_tokens);

}  // namespace moeut
