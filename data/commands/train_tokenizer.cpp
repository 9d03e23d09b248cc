// moeut-data train-tokenizer
#include "data/train_tokenizer.h"

#include <fmt/format.h>

#include "core/check.h"
#include "data/commands/commands.h"
#include "data/commands/input_options.h"
#include "data/progress_line.h"
#include "data/text_sample.h"
#include "data/tokenize_space.h"
#include "data/tokenizer.h"

namespace moeut::commands {
namespace {

/// SentencePiece needs about five bytes of memory for each byte of it.
constexpr uint64_t kDefaultSampleBytes = 100'000'000;

/// All texts of the inputs, cut where SentencePiece would leave them out for their length.
class Texts {
 public:
  Texts(const InputOptions& input, uint64_t max_text_bytes)
      : files_(expand_inputs(input.paths)), reader_(input.reader()) {
    reader_.max_document_bytes = max_text_bytes;
  }

  /// Gives all of them to `sample`, and says what was left out. Of a document that turns out bad further on, the texts
  /// before that place stay in the sample.
  void read_into(TextSample& sample) const {
    const uint64_t total = total_bytes(files_);
    ProgressLine progress("reading text");
    uint64_t before = 0, text_bytes = 0;
    ReaderCounts counts;
    LeftOutRecords left_out;
    for (const auto& file : files_) {
      const auto reader = open_documents(file, reader_, std::ref(left_out));
      for (Document document; reader->next(document);) {
        text_bytes += document.text.size();
        if (!document.retracted) sample.add(std::move(document.text));
        progress.update(before + reader->consumed(), total, text_bytes);
      }
      before += reader->consumed();
      counts += reader->counts();
    }
    if (counts.left_out() > 0)
      fmt::print(stderr, "moeut-data: read {:.1f} MB of text{}\n", text_bytes / 1e6, describe_left_out(counts));
  }
  const std::filesystem::path& first_file() const { return files_[0]; }

 private:
  std::vector<std::filesystem::path> files_;
  ReaderOptions reader_;
};

class TrainTokenizer {
 public:
  void declare(CLI::App& command) {
    command.add_option("--output", output_, "The model file to write, for example data/tokenizer.model")->required();
    command
        .add_option("--setting", setting_,
                    "paper: white space collapsed, text normalised; lossless: any text comes back byte for byte")
        ->check(CLI::IsMember(std::vector<std::string>{"paper", "lossless"}))
        ->capture_default_str();
    command.add_option("--vocab-size", training_.vocab_size, "Number of pieces")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 22))
        ->capture_default_str();
    command.add_option("--model-type", training_.model_type, "bpe, unigram, word or char")
        ->check(CLI::IsMember(std::vector<std::string>{"bpe", "unigram", "word", "char"}))
        ->capture_default_str();
    command.add_option("--split-digits", training_.split_digits, "Every digit is a piece of its own")
        ->capture_default_str();
    command.add_option("--sample-bytes", sample_bytes_, "Train on a random sample of so many bytes of text; 0: on all")
        ->check(CLI::NonNegativeNumber)
        ->capture_default_str();
    command.add_option("--seed", training_.seed, "Of the sample")->capture_default_str();
    command.add_option("--option", options_, "key=value: any other option of spm_train; repeat it for more")
        ->allow_extra_args(false);
    input_.declare(command);
  }

  void run() {
    if (setting_ == "lossless") training_.setting = TokenizerTraining::Setting::kLossless;
    for (const std::string& option : options_) {
      const size_t equals = option.find('=');
      require<ConfigError>(equals != std::string::npos && equals > 0, "--option {}: write it as key=value", option);
      training_.options[option.substr(0, equals)] = option.substr(equals + 1);
    }
    report_left_out(input_.paths);
    TextSample sample(sample_bytes_, training_.seed);
    train(Texts(input_, training_.max_sentence_bytes()), sample);
    const Tokenizer tokenizer = Tokenizer::load(output_);
    const char* kind = tokenizer.lossless()     ? ", lossless,"
                       : setting_ == "lossless" ? ", not lossless (an option overrides the setting),"
                                                : "";
    fmt::print("{}: {} pieces{} from {}, SHA-256 {}\n", output_.string(), tokenizer.vocab_size(), kind,
               describe(sample), tokenizer.sha256());
  }

 private:
  void train(const Texts& texts, TextSample& sample) const {
    bool has_read = false;
    const auto next = [&](std::string& text) {
      if (!std::exchange(has_read, true)) {  // not before train_tokenizer() has looked at the options
        texts.read_into(sample);
        require_some(sample, texts.first_file());
        fmt::print(stderr, "training on {}\n", describe(sample));
      }
      std::optional<std::string> sampled = sample.next();
      if (sampled) text = *std::move(sampled);
      return sampled.has_value();
    };
    train_tokenizer(training_, next, output_);
  }

  void require_some(const TextSample& sample, const std::filesystem::path& first_file) const {
    require<IoError>(sample.texts_seen() > 0,
                     "{}: there is no text to train a tokenizer on: the inputs are empty; name other inputs",
                     input_name(first_file));
    require<ConfigError>(sample.texts() > 0, "--sample-bytes {}: no text is that short; give some megabytes",
                         sample_bytes_);
  }

  std::string describe(const TextSample& sample) const {
    const double read = static_cast<double>(sample.bytes_seen()) / 1e6;
    if (sample.texts() == sample.texts_seen()) return fmt::format("{:.1f} MB of text", read);
    return fmt::format("a sample (seed {}) of {:.2f} of {:.2f} MB of text", training_.seed,
                       static_cast<double>(sample.bytes()) / 1e6, read);
  }

  InputOptions input_;
  TokenizerTraining training_;
  uint64_t sample_bytes_ = kDefaultSampleBytes;
  std::filesystem::path output_;
  std::string setting_ = "paper";
  std::vector<std::string> options_;
};

}  // namespace

void declare_train_tokenizer(CLI::App& app) {
  keep<TrainTokenizer>(app, "train-tokenizer", "Train a SentencePiece model on text");
}

}  // namespace moeut::commands
