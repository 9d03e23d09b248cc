// Training by SentencePiece.
#include <sentencepiece_trainer.h>

#include <charconv>
#include <exception>
#include <unordered_map>

#include "core/check.h"
#include "core/file.h"
#include "data/sentencepiece_model.h"
#include "data/train_tokenizer.h"

namespace moeut {
namespace {

/// Hands the texts of a function to SentencePiece. An exception ends the texts and is kept: it must not pass through
/// the library.
class Texts final : public sentencepiece::SentenceIterator {
 public:
  explicit Texts(const std::function<bool(std::string&)>& next) : next_(next) { advance(); }
  bool done() const override { return done_; }
  void Next() override { advance(); }
  const std::string& value() const override { return text_; }
  sentencepiece::util::Status status() const override { return {}; }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void advance() {
    try {
      done_ = !next_(text_);
    } catch (...) {
      error_ = std::current_exception();
      done_ = true;
    }
  }
  const std::function<bool(std::string&)>& next_;
  std::string text_;
  bool done_ = false;
  std::exception_ptr error_;
};

/// What makes SentencePieceModel::lossless(); runs of spaces may be pieces, as they are what source code is indented
/// by.
const std::unordered_map<std::string, std::string> kLossless = {{"byte_fallback", "true"},
                                                                {"normalization_rule_name", "identity"},
                                                                {"remove_extra_whitespaces", "false"},
                                                                {"add_dummy_prefix", "false"},
                                                                {"allow_whitespace_only_pieces", "true"}};

std::unordered_map<std::string, std::string> all_options(const TokenizerTraining& training) {
  std::unordered_map<std::string, std::string> options = {{"vocab_size", std::to_string(training.vocab_size)},
                                                          {"model_type", training.model_type},
                                                          {"split_digits", training.split_digits ? "true" : "false"},
                                                          {"minloglevel", "2"}};
  if (training.setting == TokenizerTraining::Setting::kLossless) options.insert(kLossless.begin(), kLossless.end());
  for (const auto& [name, value] : training.options) {
    require<ConfigError>(name != "input" && name != "model_prefix" && name != "input_format" && name != "random_seed",
                         "option '{}' is not SentencePiece's to decide here; use the command's own arguments", name);
    options[name] = value;
  }
  return options;
}

/// The last number in `text`, as text.
std::string last_number(const std::string& text) {
  const size_t end = text.find_last_of("0123456789");
  if (end == std::string::npos) return "?";
  const size_t before = text.find_last_not_of("0123456789", end);
  return text.substr(before + 1, end - before);  // npos + 1 is 0
}

/// SentencePiece's message in terms of our options, and what to do about it.
[[noreturn]] void fail_training(const std::string& message, const TokenizerTraining& training) {
  if (message.find("Vocabulary size too high") != std::string::npos)
    throw IoError(fmt::format(
        "the text is too short for a vocabulary of {} pieces, it gives {} at the most; give more text, or a smaller "
        "--vocab-size",
        training.vocab_size, last_number(message)));
  const size_t required = message.find("Vocabulary size is smaller");
  if (required != std::string::npos)  // "... 5 vs 43. Increase ..."
    throw IoError(fmt::format(
        "a vocabulary of {} pieces is too small for the characters of the text, which need {}; give a larger "
        "--vocab-size, or cover fewer of them with --option character_coverage=0.99",
        training.vocab_size, last_number(message.substr(0, message.find(". Increase", required)))));
  throw IoError(fmt::format("SentencePiece cannot train a tokenizer: {}", message));
}

/// Refuses what SentencePiece does not know, before any text is read.
void check_options(const std::unordered_map<std::string, std::string>& options) {
  class Nothing final : public sentencepiece::SentenceIterator {
    bool done() const override { return true; }
    void Next() override {}
    const std::string& value() const override { return empty_; }
    sentencepiece::util::Status status() const override { return {}; }
    std::string empty_;
  } nothing;
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &nothing, &model);
  const std::string message = status.ToString();
  const bool bad_option = status.code() == sentencepiece::util::StatusCode::kNotFound ||
                          status.code() == sentencepiece::util::StatusCode::kInvalidArgument ||
                          message.find("trainer_spec.") != std::string::npos;  // a value out of its range
  require<ConfigError>(!bad_option, "SentencePiece refuses an option: {}; spm_train --help lists them", message);
}

}  // namespace

uint64_t TokenizerTraining::max_sentence_bytes() const {
  const auto option = options.find("max_sentence_length");
  if (option == options.end()) return 4192;
  uint64_t value = 0;
  const char* end = option->second.data() + option->second.size();
  const auto [parsed, error] = std::from_chars(option->second.data(), end, value);
  require<ConfigError>(error == std::errc() && parsed == end && value >= 16 && value <= INT32_MAX,
                       "max_sentence_length is '{}'; give a number of bytes of at least 16", option->second);
  return value;
}

void train_tokenizer(const TokenizerTraining& training, const std::function<bool(std::string&)>& next,
                     const std::filesystem::path& path) {
  const auto options = all_options(training);
  check_options(options);
  require<IoError>(!std::filesystem::is_directory(path),
                   "cannot write the tokenizer '{}': it is a folder; give --output a file name", path.string());
  require_writable_folder(path.parent_path(), "give another --output");
  sentencepiece::SetRandomGeneratorSeed(training.seed);
  Texts texts(next);
  texts.rethrow();
  require<IoError>(!texts.done(), "there is no text to train a tokenizer on: the inputs are empty; name other inputs");
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &texts, &model);
  texts.rethrow();
  if (!status.ok()) fail_training(status.ToString(), training);
  SentencePieceModel::parse(model, path);
  if (!path.parent_path().empty()) FileSystem::posix().make_directories(path.parent_path());
  write_file_atomically(FileSystem::posix(), path, model);
}

}  // namespace moeut
