#include "data/sample_export.h"

#include <algorithm>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/file.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

/// Sequences read at once.
constexpr uint64_t kChunk = 64;

/// Magic, version, length of the rest, a Python dictionary padded with blanks to a multiple of 64 bytes, a line end.
/// [numpy.lib.format, version 1.0]
std::string npy_header(uint64_t rows, uint64_t columns, size_t item_bytes) {
  std::string text =
      fmt::format("{{'descr': '<u{}', 'fortran_order': False, 'shape': ({}, {}), }}", item_bytes, rows, columns);
  constexpr size_t kPrefix = 10, kAlignment = 64;
  text.append(kAlignment - 1 - (kPrefix + text.size()) % kAlignment, ' ');
  text += '\n';
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(text.size() & 0xFF);
  header += static_cast<char>(text.size() >> 8);
  return header + text;
}

/// A window is its inputs and the last of its targets.
template <class T>
std::vector<T> windows(const Batch& batch) {
  const auto length = static_cast<size_t>(batch.seq_len);
  std::vector<T> ids;
  ids.reserve(static_cast<size_t>(batch.sequences) * (length + 1));
  for (size_t at = 0; at < batch.tokens.size(); at += length) {
    for (size_t t = 0; t < length; ++t) ids.push_back(static_cast<T>(batch.tokens[at + t]));
    ids.push_back(static_cast<T>(batch.targets[at + length - 1]));
  }
  return ids;
}

template <class T>
void write_samples(const Loader& loader, SampleRange range, FileSystem& fs, const stdfs::path& path) {
  const auto columns = static_cast<uint64_t>(loader.seq_len()) + 1;
  const std::string header = npy_header(range.count, columns, sizeof(T));
  const auto file = fs.create(path, header.size() + range.count * columns * sizeof(T));
  file->write(header.data(), header.size());
  for (uint64_t done = 0; done < range.count; done += kChunk) {
    const uint64_t count = std::min(kChunk, range.count - done);
    const std::vector<T> ids = windows<T>(loader.get(range.first + done, static_cast<int64_t>(count)));
    file->write(ids.data(), ids.size() * sizeof(T));
  }
  file->sync();
  file->close();
}

}  // namespace

void export_samples(const Loader& loader, SampleRange range, int64_t vocab_size, const stdfs::path& path) {
  require<ConfigError>(range.count >= 1, "an export of 0 samples was asked for; give 1 at least");
  require<ConfigError>(
      !loader.padded(),
      "export of samples: sequences of one document each are of many lengths, which rows of one length "
      "cannot hold; export packed ones");
  FileSystem& fs = FileSystem::posix();
  const stdfs::path folder = path.has_parent_path() ? path.parent_path() : ".";
  stdfs::path temporary = path;
  temporary += ".tmp";
  fs.make_directories(folder);
  try {
    vocab_size <= 65536 ? write_samples<uint16_t>(loader, range, fs, temporary)
                        : write_samples<uint32_t>(loader, range, fs, temporary);
    fs.rename(temporary, path);
  } catch (...) {
    std::error_code ignored;
    stdfs::remove(temporary, ignored);
    throw;
  }
  fs.sync_directory(folder);
}

}  // namespace moeut
