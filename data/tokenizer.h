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
class Tokenizer {
 public:
  /// Loads a .model file. Its structure is checked before SentencePiece sees it (lengths, number and size of pieces,
  /// scores): IoError naming the file otherwise.
  static Tokenizer load(const std::filesystem::path& path);
  /// Loads and tries the model in a child process with limits on time and memory first, for files of unknown origin.
  static Tokenizer load_foreign(const std::filesystem::path& path);

  int64_t vocab_size() const;
  /// 64 hexadecimal digits: SHA-256 of the model file.
  const std::string& sha256() const;
  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;

  /// The ids that SentencePiece gives, without BOS and EOS.
  std::vector<int32_t> encode(std::string_view text) const;
  /// Throws IoError for an id outside [0, vocab_size).
  std::string decode(std::span<const int32_t> ids) const;
  /// The piece of one id, with U+2581 for a space.
  std::string piece(int32_t id) const;

 private:
  struct Model;
  explicit Tokenizer(std::shared_ptr<const Model> model) : model_(std::move(model)) {}
  std::shared_ptr<const Model> model_;
};

/// Throws IoError unless `bytes` is a well-formed SentencePiece model with sane sizes. `path` is for messages.
void check_sentencepiece_model(std::string_view bytes, const std::filesystem::path& path);

}  // namespace moeut
