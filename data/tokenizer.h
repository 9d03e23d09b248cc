// Text to ids and back, by SentencePiece.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace moeut {

/// A SentencePiece model. Immutable; safe for any number of threads; cheap to copy.
///
/// A text's ids are SentencePiece's. For byte-pair models whose texts may be cut into words (word_splitter.h) the ids
/// of words seen before come from a cache of 8 MiB for each thread that encodes at the same time. What SentencePiece
/// gets at once (a text, or a word of one) and has more than 64 KiB shares a budget of 2 MiB with what other threads
/// encode: memory does not grow with their number.
class Tokenizer {
 public:
  /// Loads a .model file. Its structure is checked before SentencePiece sees it (sentencepiece_model.h): IoError naming
  /// the file otherwise.
  static Tokenizer load(const std::filesystem::path& path);
  /// Loads and tries the model in a child process with limits on time and memory first, for files of unknown origin.
  static Tokenizer load_foreign(const std::filesystem::path& path);

  int64_t vocab_size() const;
  /// 64 hexadecimal digits: SHA-256 of the model file.
  const std::string& sha256() const;
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  /// True if decode(encode(x)) == x for any valid UTF-8 text x, by the options that the model file records
  /// (SentencePieceModel::lossless()).
  bool lossless() const;
  /// True if encode() works word by word.
  bool caches_words() const;

  /// The ids that SentencePiece gives, without BOS and EOS. One exception: SentencePiece reads U+2581 as a space; if
  /// the model is lossless() it becomes its three byte pieces, and what is before and behind it is encoded apart.
  std::vector<int32_t> encode(std::string_view text) const;
  /// The ids that SentencePiece gives, without exception and cache: what encode() is compared with.
  std::vector<int32_t> encode_by_library(std::string_view text) const;
  /// Throws IoError for an id outside [0, vocab_size).
  std::string decode(std::span<const int32_t> ids) const;
  /// The piece of one id, with U+2581 for a space.
  std::string piece(int32_t id) const;

 private:
  struct Model;
  explicit Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  void encode_part(std::string_view text, std::vector<int32_t>& ids) const;
  std::shared_ptr<const Model> model_;
};

}  // namespace moeut
