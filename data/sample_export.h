// The samples of a training run as a file for programs of others.
#pragma once

#include <cstdint>
#include <filesystem>

#include "data/loader.h"

namespace moeut {

/// Which samples: [first, first + count) of the loader.
struct SampleRange {
  uint64_t first = 0, count = 0;
};

/// Writes samples as a NumPy file (.npy, format version 1.0) of shape (count, T + 1), one window a row: its first T ids
/// are the inputs, its last T the targets. Ids are little-endian, uint16 for a vocabulary of at most 65536, otherwise
/// uint32, as in shards. Streamed, so any count will do; lands atomically and replaces an earlier file.
/// Throws ConfigError for a count of 0 or a loader that pads, IoError if the data are damaged or the file cannot be
/// written.
void export_samples(const Loader& loader, SampleRange range, int64_t vocab_size, const std::filesystem::path& path);

}  // namespace moeut
