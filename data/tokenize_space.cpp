#include "data/tokenize_space.h"

#include <algorithm>

#include "core/check.h"
#include "core/file.h"
#include "data/input_files.h"

namespace moeut {
namespace {

constexpr double kTextBytesPerId = 6;
constexpr double kUnpacked = 2.5;
constexpr double kTextOfJson = 0.5;

/// Bytes of text in a byte of the file, as far as its name tells.
double text_share(std::filesystem::path file) {
  double share = 1;
  if (file.extension() == ".gz" || file.extension() == ".zst") {
    share *= kUnpacked;
    file.replace_extension();
  }
  return is_json_lines(file) ? share * kTextOfJson : share;
}

}  // namespace

uint64_t total_bytes(const std::vector<std::filesystem::path>& files) {
  uint64_t sum = 0;
  for (const auto& file : files) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(file, error)) return 0;
    sum += std::filesystem::file_size(file, error);
  }
  return sum;
}

uint64_t least_disk_space(const std::vector<std::filesystem::path>& files, uint64_t bytes_read, uint64_t id_bytes,
                          uint64_t shard_tokens, uint64_t max_tokens) {
  if (max_tokens > 0) return 0;
  double text = 0;
  for (const auto& file : files) {
    std::error_code error;
    const uint64_t size = std::filesystem::is_regular_file(file, error) ? std::filesystem::file_size(file, error) : 0;
    const uint64_t done = std::min(bytes_read, size);
    bytes_read -= done;
    text += static_cast<double>(size - done) * text_share(file);
  }
  const auto ids = static_cast<uint64_t>(text / kTextBytesPerId);
  return (ids + std::min(ids, shard_tokens)) * id_bytes;
}

void require_disk_space(const std::filesystem::path& output, uint64_t needed) {
  const uint64_t available = free_disk_space(output);
  require<IoError>(available >= needed,
                   "'{}' has {} MiB of free disk space and the shards need {} MiB at least; free some, or give another "
                   "--output",
                   output.string(), available >> 20, needed >> 20);
}

}  // namespace moeut
