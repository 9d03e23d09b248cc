// How much there is to read, and how much disk the shards of it take at least.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

namespace moeut {

/// Bytes of all files; 0 if one of them is no regular file (standard input).
uint64_t total_bytes(const std::vector<std::filesystem::path>& files);

/// The least that the shards of `files` and the spools beside them need, in bytes, when `bytes_read` of the files are
/// done: a low estimate, because who has more space must not be turned away. It counts 1 byte of text for a byte of a
/// text file, 1/2 of JSON lines (the rest is other fields), times 2.5 if the file is compressed; an id for 6 bytes of
/// text (tokenizers of 8000 to 128000 pieces give 3 to 5), of `id_bytes`; and once more the ids of one shard, at most
/// `shard_tokens`, which are spool and shard for a moment. With `max_tokens` that estimate is not used: nothing is
/// known to be needed.
uint64_t least_disk_space(const std::vector<std::filesystem::path>& files, uint64_t bytes_read, uint64_t id_bytes,
                          uint64_t shard_tokens, uint64_t max_tokens = 0);

/// Throws IoError if the file system of `output` has less than that.
void require_disk_space(const std::filesystem::path& output, uint64_t needed);

}  // namespace moeut
