// moeut-data train-tokenizer
#include "data/train_tokenizer.h"
#include <fmt/format.h>
#include "core/check.h"
#include "data/commands/commands.h"
#include "data/commands/input_options.h"
#include "data/tokenizer.h"

namespace moeut::commands {
namespace {

class TrainTokenizer {
 public:
  void declare(CLI::App& command) {
    command.add_option("--output", output_, "The model file to write, for example data/tokenizer.model")->required();
    command.add_option("--vocab-size", training_.vocab_size, "Number of pieces")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 22))
        ->capture_default_str();
    command.add_option("--model-type", training_.model_type, "bpe, unigram, word or char")
        ->check(CLI::IsMember(std::vector<std::string>{"bpe", "unigram", "word", "char"}))
        ->capture_default_str();
    command.add_option("--split-digits", training_.split_digits, "Every digit is a piece of its own")
        ->capture_default_str();
    command.add_option("--seed", training_.seed, "Of the sample, with --option input_sentence_size=N")
        ->capture_default_str();
    command.add_option("--option", options_, "key=value: any other option of spm_train; repeat it for more")
        ->allow_extra_args(false);
    input_.declare(command);
  }

  void run() {
    for (const std::string& option : options_) {
      const size_t equals = option.find('=');
      require<ConfigError>(equals != std::string::npos && equals > 0, "--option {}: write it as key=value", option);
      training_.options[option.substr(0, equals)] = option.substr(equals + 1);
    }
    // SentencePiece skips longer sentences; cut where a line or a word ends they still count.
    ReaderOptions reader = input_.reader();
    reader.max_document_bytes = training_.max_sentence_bytes();
    report_left_out(input_.paths);
    const auto files = expand_inputs(input_.paths);

    std::unique_ptr<DocumentReader> open;
    size_t file = 0;
    uint64_t texts = 0, bytes = 0;
    const auto next = [&](std::string& text) {
      for (Document document;; open.reset()) {
        if (!open) {
          if (file == files.size()) return false;
          open = open_documents(files[file++], reader);
        }
        if (!open->next(document)) continue;
        text = std::move(document.text);
        ++texts;
        bytes += text.size();
        return true;
      }
    };
    try {
      train_tokenizer(training_, next, output_);
    } catch (const IoError& error) {
      const std::string file_name = files[0].string();
      if (texts > 0 || std::string_view(error.what()).find(file_name) != std::string_view::npos) throw;
      throw IoError(fmt::format("'{}': {}", file_name, error.what()));
    }
    const Tokenizer tokenizer = Tokenizer::load(output_);
    fmt::print("{}: {} pieces from {:.1f} MB of text, SHA-256 {}\n", output_.string(), tokenizer.vocab_size(),
               static_cast<double>(bytes) / 1e6, tokenizer.sha256());
  }

 private:
  InputOptions input_;
  TokenizerTraining training_;
  std::filesystem::path output_;
  std::vector<std::string> options_;
};

}  // namespace

void declare_train_tokenizer(CLI::App& app) {
  keep<TrainTokenizer>(app, "train-tokenizer", "Train a SentencePiece model on text");
}

}  // namespace moeut::commands
