// Training of a SentencePiece model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace moeut {

struct TokenizerTraining {
  enum class Setting {
    kPaper,     ///< everything that is no field here has SentencePiece's own default
    kLossless,  ///< byte_fallback, no normalisation, no prefix, every space kept: Tokenizer::lossless()
  };
  Setting setting = Setting::kPaper;
  // The paper's: BPE, 8000 pieces, digits split.
  int64_t vocab_size = 8000;
  std::string model_type = "bpe";
  bool split_digits = true;
  uint32_t seed = 0;  ///< of SentencePiece's random numbers
  /// Any option of spm_train by its name, without dashes; wins over the setting and the fields above.
  std::map<std::string, std::string> options;

  /// The longest sentence in bytes that SentencePiece accepts; longer documents are to be cut before (it would skip
  /// them).
  uint64_t max_sentence_bytes() const;
};

/// Trains on the texts that `next` gives until it returns false, and writes the model to `path` atomically. The same
/// texts and options give the same bytes. Throws ConfigError for an option that SentencePiece does not know, IoError if
/// the texts are too few for the vocabulary (naming the size that they allow) or there are none.
void train_tokenizer(const TokenizerTraining& training, const std::function<bool(std::string&)>& next,
                     const std::filesystem::path& path);

}  // namespace moeut
