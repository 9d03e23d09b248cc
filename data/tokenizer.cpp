// With train_tokenizer() here too: the only place that knows SentencePiece.
#include "data/tokenizer.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <charconv>
#include <exception>
#include <unordered_map>

#include "core/check.h"
#include "core/file.h"
#include "data/hash.h"
#include "data/limited_child.h"
#include "data/train_tokenizer.h"

namespace moeut {
namespace {

constexpr uint64_t kMaxModelBytes = uint64_t{256} << 20;
constexpr const char* kSampleText =
    "Hello, wörld! \t\n  0123456789 \xE2\x96\x81 \xF0\x9F\x99\x82 e\xCC\x81 aaaaaaaaaaaaaaaa";

std::optional<int32_t> id_or_nothing(int id) {
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

}  // namespace

struct Tokenizer::Model {
  sentencepiece::SentencePieceProcessor processor;
  std::string sha256;
};

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  require<IoError>(
      std::filesystem::exists(path),
      "cannot read tokenizer '{}': no such file; check the path, or make it with moeut-data train-tokenizer",
      path.string());
  const std::string bytes = read_file(path, kMaxModelBytes);
  check_sentencepiece_model(bytes, path);
  auto model = std::make_shared<Model>();
  const auto status = model->processor.LoadFromSerializedProto(bytes);
  require<IoError>(status.ok(), "'{}' is not a usable SentencePiece model ({}); train it again or restore it",
                   path.string(), status.ToString());
  model->sha256 = sha256_hex(bytes);
  return Tokenizer(std::move(model));
}

Tokenizer Tokenizer::load_foreign(const std::filesystem::path& path) {
  run_in_limited_child(fmt::format("tokenizer '{}'", path.string()), [&] {
    const Tokenizer tokenizer = load(path);
    tokenizer.decode(tokenizer.encode(kSampleText));
    return std::string("whole");
  });
  return load(path);
}

int64_t Tokenizer::vocab_size() const {
  return model_->processor.GetPieceSize();
}
const std::string& Tokenizer::sha256() const {
  return model_->sha256;
}
std::optional<int32_t> Tokenizer::bos_id() const {
  return id_or_nothing(model_->processor.bos_id());
}
std::optional<int32_t> Tokenizer::eos_id() const {
  return id_or_nothing(model_->processor.eos_id());
}

std::vector<int32_t> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  const auto status = model_->processor.Encode(text, &ids);
  require<IoError>(status.ok(), "SentencePiece cannot encode a text of {} bytes: {}", text.size(), status.ToString());
  return ids;
}

std::string Tokenizer::decode(std::span<const int32_t> ids) const {
  for (const int32_t id : ids)
    require<IoError>(id >= 0 && id < vocab_size(), "cannot decode id {}: the tokenizer has {} pieces", id,
                     vocab_size());
  std::string text;
  const auto status = model_->processor.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
  require<IoError>(status.ok(), "SentencePiece cannot decode {} ids: {}", ids.size(), status.ToString());
  return text;
}

std::string Tokenizer::piece(int32_t id) const {
  require<IoError>(id >= 0 && id < vocab_size(), "there is no piece {}: the tokenizer has {}", id, vocab_size());
  return model_->processor.IdToPiece(id);
}

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

std::unordered_map<std::string, std::string> all_options(const TokenizerTraining& training) {
  std::unordered_map<std::string, std::string> options = {{"vocab_size", std::to_string(training.vocab_size)},
                                                          {"model_type", training.model_type},
                                                          {"split_digits", training.split_digits ? "true" : "false"},
                                                          {"minloglevel", "2"}};
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
  check_sentencepiece_model(model, path);
  if (!path.parent_path().empty()) FileSystem::posix().make_directories(path.parent_path());
  write_file_atomically(FileSystem::posix(), path, model);
}

}  // namespace moeut
