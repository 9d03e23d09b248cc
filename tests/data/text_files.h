// Small files for the tests of data/: plain and compressed text, a tokenizer trained on the spot, shards of known ids.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <numeric>
#include <string>
#include <vector>

#include "data/shard_writer.h"
#include "data/tokenizer.h"
#include "data/train_tokenizer.h"

namespace moeut::testing {

inline std::string shared_data(const std::string& name) {
  return MOEUT_SOURCE_DIR "/../shared/data/" + name;
}

inline std::filesystem::path write_text(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << text;
  return path;
}

inline std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline std::string gzip(const std::string& text) {
  std::string out(compressBound(text.size()) + 64, '\0');
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

inline std::string zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

/// Prose of about `words` words that no two seeds share; enough variety for a vocabulary of 300 from 2000 words on.
inline std::string prose(int words, uint32_t seed = 1) {
  static const char* const kSyllables[] = {"ka", "lo", "mi", "ne", "ru", "sa", "to", "vi", "an", "el", "or", "un"};
  std::string text;
  uint32_t state = seed * 2654435761u + 1;
  for (int word = 0; word < words; ++word) {
    for (int syllable = 0; syllable < 3; ++syllable) {
      state = state * 1664525u + 1013904223u;
      text += kSyllables[(state >> 16) % 12];
    }
    text += word % 10 == 9 ? ".\n" : " ";
  }
  return text;
}

/// Trains on prose; 300 pieces.
inline std::filesystem::path small_tokenizer(const std::filesystem::path& folder, uint32_t seed = 1) {
  const std::filesystem::path path = folder / ("tokenizer-" + std::to_string(seed) + ".model");
  TokenizerTraining training;
  training.vocab_size = 300;
  int line = 0;
  train_tokenizer(
      training,
      [&](std::string& text) {
        text = prose(40, seed * 1000 + static_cast<uint32_t>(line));
        return line++ < 100;
      },
      path);
  return path;
}

/// A finished folder: ids 0, 1, 2, … modulo `vocab`, in documents of `document_tokens`, in shards of `shard_tokens`.
inline Manifest counting_shards(const std::filesystem::path& folder, uint64_t tokens, uint64_t document_tokens,
                                uint64_t shard_tokens, uint64_t vocab = 60000) {
  ShardWriter writer(folder, {vocab, std::string(64, 'a'), {}}, shard_tokens);
  for (uint64_t at = 0; at < tokens; at += document_tokens) {
    std::vector<int32_t> ids(std::min(document_tokens, tokens - at));
    for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int32_t>((at + i) % vocab);
    writer.append(ids);
    writer.end_document();
  }
  return writer.finish({});
}

/// A finished folder of documents of these lengths in shards of at least `shard_tokens`; ids count up from `first_id`.
inline void document_shards(const std::filesystem::path& folder, const std::vector<size_t>& lengths,
                            uint64_t shard_tokens, int32_t first_id = 0) {
  ShardWriter writer(folder, {60000, std::string(64, 'a'), {}}, shard_tokens);
  for (const size_t length : lengths) {
    std::vector<int32_t> ids(length);
    std::iota(ids.begin(), ids.end(), first_id);
    first_id += static_cast<int32_t>(length);
    writer.append(ids);
    writer.end_document();
  }
  writer.finish({});
}

inline void flip_bit(const std::filesystem::path& path, uint64_t bit) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(static_cast<std::streamoff>(bit / 8));
  const int byte = file.get();
  file.seekp(static_cast<std::streamoff>(bit / 8));
  file.put(static_cast<char>(byte ^ (1 << (bit % 8))));
}

}  // namespace moeut::testing
