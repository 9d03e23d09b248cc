// moeut-data: from raw text to shards, and what is in them.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <thread>

#include "core/check.h"
#include "data/dataset.h"
#include "data/progress_line.h"
#include "data/sample_export.h"
#include "data/tokenize.h"
#include "data/train_tokenizer.h"
#include "data/verify.h"

namespace moeut {
namespace {

using Paths = std::vector<std::filesystem::path>;

const std::map<std::string, DocumentUnit> kUnits = {
    {"file", DocumentUnit::kFile}, {"line", DocumentUnit::kLine}, {"block", DocumentUnit::kBlock}};

int default_threads() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// What train-tokenizer and tokenize have in common.
struct Input {
  Paths paths;
  std::string unit = "file", text_field = "text";

  void declare(CLI::App& command) {
    command.add_option("--documents", unit, "What is one document of a text file (not of JSON lines)")
        ->check(CLI::IsMember(std::vector<std::string>{"file", "line", "block"}))
        ->capture_default_str();
    command.add_option("--text-field", text_field, "Field of the text in JSON lines; dots descend: meta.text")
        ->capture_default_str();
    command
        .add_option(
            "INPUT", paths,
            "Files or folders: .txt and others as text, .jsonl .ndjson .json as JSON lines; also with .gz or .zst")
        ->required();
  }
  ReaderOptions reader() const { return {.unit = kUnits.at(unit), .text_field = text_field}; }
};

/// What a folder walk left out must not go unseen.
void report_left_out(const Paths& inputs) {
  Paths left_out;
  expand_inputs(inputs, &left_out);
  if (left_out.empty()) return;
  fmt::print(stderr, "moeut-data: left out {} file(s) of other kinds, such as '{}'; name a file to include it\n",
             left_out.size(), left_out[0].string());
}

// ---------------------------------------------------------------- train-tokenizer

class TrainTokenizer {
 public:
  explicit TrainTokenizer(CLI::App& app) {
    CLI::App* command = app.add_subcommand("train-tokenizer", "Train a SentencePiece model on text");
    command->add_option("--output", output_, "The model file to write, for example data/tokenizer.model")->required();
    command->add_option("--vocab-size", training_.vocab_size, "Number of pieces")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 22))
        ->capture_default_str();
    command->add_option("--model-type", training_.model_type, "bpe, unigram, word or char")
        ->check(CLI::IsMember(std::vector<std::string>{"bpe", "unigram", "word", "char"}))
        ->capture_default_str();
    command->add_option("--split-digits", training_.split_digits, "Every digit is a piece of its own")
        ->capture_default_str();
    command->add_option("--seed", training_.seed, "Of the sample, with --option input_sentence_size=N")
        ->capture_default_str();
    command->add_option("--option", options_, "key=value: any other option of spm_train; repeat it for more")
        ->allow_extra_args(false);
    input_.declare(*command);
    command->callback([this] { run(); });
  }

 private:
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
    const Paths files = expand_inputs(input_.paths);

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

  Input input_;
  TokenizerTraining training_;
  std::filesystem::path output_;
  std::vector<std::string> options_;
};

// ---------------------------------------------------------------- tokenize

class Tokenize {
 public:
  explicit Tokenize(CLI::App& app) {
    CLI::App* command = app.add_subcommand("tokenize", "Turn text into shards of token ids");
    command->add_option("--tokenizer", tokenizer_, "A SentencePiece model")->required();
    command->add_option("--output", output_, "The folder to write")->required();
    command
        ->add_option("--separator", separator_,
                     "What ends every document: none, eos, or a text that is appended before it is encoded")
        ->capture_default_str();
    command
        ->add_option(
            "--validation-ratio", options_.validation_ratio,
            "Share of the documents that go to OUTPUT/validation, the others to OUTPUT/train (default: no split)")
        ->check(CLI::Range(0.0, 1.0));
    command->add_option("--shard-tokens", options_.shard_tokens, "A shard is closed when it has as many tokens")
        ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40))
        ->capture_default_str();
    command
        ->add_option("--max-document-bytes", max_document_bytes_,
                     "Longer documents are encoded in pieces, cut where a line or a word ends")
        ->check(CLI::Range(uint64_t{64}, uint64_t{1} << 30))
        ->capture_default_str();
    command->add_option("--threads", options_.threads, "Encoding threads; the output does not depend on it")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command->add_flag("--overwrite", options_.overwrite, "Replace the shards that OUTPUT holds");
    input_.declare(*command);
    command->callback([this] { run(); });
  }

 private:
  void run() {
    options_.reader = input_.reader();
    options_.reader.max_document_bytes = max_document_bytes_;
    const bool named = separator_ == "none" || separator_ == "eos";
    require<ConfigError>(!separator_.empty() && first_zero(separator_) == std::string::npos,
                         "--separator: give none, eos or a text");
    options_.separator = named ? Separator::from(separator_, "") : Separator::from("text", separator_);
    const Tokenizer tokenizer = Tokenizer::load_foreign(tokenizer_);
    report_left_out(input_.paths);
    std::vector<Manifest> manifests;
    {
      ProgressLine progress("tokenizing");
      options_.progress = [&](uint64_t done, uint64_t total) { progress.update(done, total); };
      manifests = tokenize(tokenizer, input_.paths, output_, options_);
    }
    for (const Manifest& manifest : manifests) report(manifest);
  }

  static size_t first_zero(const std::string& text) { return text.find('\0'); }

  void report(const Manifest& manifest) const {
    const auto folder = manifest.part == "all" ? output_ : output_ / manifest.part;
    fmt::print("{}: {} tokens, {} documents, {} shard(s), {:.1f} MB of text", folder.string(), manifest.tokens(),
               manifest.documents(), manifest.shards.size(), static_cast<double>(manifest.text_bytes) / 1e6);
    if (manifest.empty_documents > 0) fmt::print("; {} empty documents left out", manifest.empty_documents);
    if (manifest.split_documents > 0) fmt::print("; {} long documents encoded in pieces", manifest.split_documents);
    fmt::print("\n");
  }

  Input input_;
  std::filesystem::path tokenizer_, output_;
  std::string separator_ = "none";
  uint64_t max_document_bytes_ = ReaderOptions{}.max_document_bytes;
  TokenizeOptions options_{.threads = default_threads()};
};

// ---------------------------------------------------------------- inspect

/// Ids of the shard on standard output: a space between ids, a line end after each document.
void print_ids(const Shard& shard) {
  std::vector<int32_t> ids(1 << 16);
  fmt::memory_buffer text;
  uint64_t document = 0;
  for (uint64_t at = 0; at < shard.layout().tokens; at += ids.size()) {
    const uint64_t count = std::min<uint64_t>(ids.size(), shard.layout().tokens - at);
    shard.read(at, count, ids.data());
    text.clear();
    for (uint64_t i = 0; i < count; ++i) {
      while (shard.document_offset(document + 1) <= at + i) ++document;
      const bool last = shard.document_offset(document + 1) == at + i + 1;
      fmt::format_to(std::back_inserter(text), "{}{}", ids[i], last ? '\n' : ' ');
    }
    require<IoError>(std::fwrite(text.data(), 1, text.size(), stdout) == text.size(),
                     "cannot write to standard output");
  }
}

void print_description(const Shard& shard) {
  const ShardLayout& layout = shard.layout();
  fmt::print("{}: {} tokens, {} documents, {} ids of a vocabulary of {}\n", shard.path().string(), layout.tokens,
             layout.documents, layout.info.item_bytes() == 2 ? "uint16" : "uint32", layout.info.vocab_size);
  fmt::print("  format version {}, tokenizer SHA-256 {}, separator {}{}\n", kShardVersion, layout.info.tokenizer_sha256,
             layout.info.separator.kind_name(),
             layout.info.separator.text.empty() ? "" : fmt::format(" \"{}\"", layout.info.separator.text));
}

class Inspect {
 public:
  explicit Inspect(CLI::App& app) {
    CLI::App* command = app.add_subcommand("inspect", "Say what shards hold");
    command->add_flag("--ids", ids_, "Print all ids, separated by white space, a document a line, and nothing else");
    command->add_option("FOLDER-or-FILE", paths_, "Folders of shards, or shards")->required();
    command->callback([this] { run(); });
  }

 private:
  void run() {
    for (const auto& path : paths_)
      for (const auto& file : shards_of(path)) {
        const Shard shard(file, read_foreign_shard_layout(file));
        ids_ ? print_ids(shard) : print_description(shard);
      }
  }
  Paths paths_;
  bool ids_ = false;
};

// ---------------------------------------------------------------- verify, unigram-entropy

class Verify {
 public:
  explicit Verify(CLI::App& app) {
    CLI::App* command = app.add_subcommand("verify", "Check that every shard is whole: hashes, boundaries, ids");
    command->add_option("FOLDER-or-FILE", paths_, "Folders of shards, or shards")->required();
    command->callback([this] { run(); });
  }

 private:
  void run() {
    const VerifyReport report = verify_shards(paths_);
    require<IoError>(report.defects.empty(), "{}", fmt::join(report.defects, "\nmoeut-data: "));
    fmt::print("{} shard(s) whole: {} tokens, {} documents\n", report.shards, report.tokens, report.documents);
  }
  Paths paths_;
};

class UnigramEntropy {
 public:
  explicit UnigramEntropy(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("unigram-entropy", "Loss of the best model without context, in nats per token");
    command->add_option("FOLDER", folder_, "A folder of shards")->required();
    command->callback([this] { run(); });
  }

 private:
  void run() {
    const auto dataset = TokenDataset::open(folder_);
    fmt::print("unigram_entropy {:.4f} nats/token over {} tokens\n", unigram_entropy(*dataset), dataset->tokens());
  }
  std::filesystem::path folder_;
};

// ---------------------------------------------------------------- export-samples

class ExportSamples {
 public:
  explicit ExportSamples(CLI::App& app) {
    CLI::App* command = app.add_subcommand(
        "export-samples", "Write the sequences that training sees, in its order, as a NumPy file for other programs");
    command->add_option("--output", output_, "The .npy file to write: an array of COUNT rows of SEQ-LEN + 1 ids")
        ->required();
    command->add_option("--count", range_.count, "Sequences: steps times train.batch_size")
        ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40))
        ->required();
    command->add_option("--first", range_.first, "The first of them, counted from the beginning of the run")
        ->check(CLI::Range(uint64_t{0}, uint64_t{1} << 60))
        ->capture_default_str();
    command->add_option("--seq-len", options_.seq_len, "train.seq_len of the run, in tokens")
        ->check(CLI::Range(int64_t{1}, int64_t{1} << 20))
        ->capture_default_str();
    command->add_option("--seed", options_.seed, "seed of the run")->capture_default_str();
    command->add_flag("!--no-shuffle", options_.shuffle, "data.shuffle of the run is false");
    command->add_option("FOLDER", folder_, "data.train of the run")->required();
    command->callback([this] { run(); });
  }

 private:
  void run() {
    const auto dataset = TokenDataset::open(folder_);
    const Loader loader(dataset, options_);
    export_samples(loader, range_, dataset->vocab_size(), output_);
    fmt::print("{}: {} sequences of {} + 1 tokens; an epoch has {}\n", output_.string(), range_.count, options_.seq_len,
               loader.samples_per_epoch());
  }
  SampleRange range_;
  LoaderOptions options_{.seq_len = 1024};
  std::filesystem::path folder_, output_;
};

/// What is wrong with the command line, in one line.
std::string explain(const CLI::ParseError& error, const CLI::App& app) {
  const auto chosen = app.get_subcommands();
  if (!chosen.empty()) {
    const std::string command = chosen[0]->get_name();
    return fmt::format("{}: {}; moeut-data {} --help lists the arguments", command, error.what(), command);
  }
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(command->get_name());
  const auto unknown = app.remaining();
  return fmt::format("{}; the commands are {} (moeut-data --help says more)",
                     unknown.empty() ? "no command given" : fmt::format("unknown command '{}'", unknown[0]),
                     fmt::join(names, ", "));
}

int run(int argc, char** argv) {
  CLI::App app("From raw text to shards of token ids, and what is in them", "moeut-data");
  app.require_subcommand(1);
  app.footer("Exit status: 0 done; 1 something on disk or in the data is wrong; 2 the command line is wrong.");
  const TrainTokenizer train_tokenizer_command(app);
  const Tokenize tokenize_command(app);
  const Inspect inspect_command(app);
  const Verify verify_command(app);
  const UnigramEntropy unigram_entropy_command(app);
  const ExportSamples export_samples_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    throw ConfigError(explain(error, app));
  }
  require<IoError>(std::fflush(stdout) == 0, "cannot write to standard output");
  return 0;
}

}  // namespace
}  // namespace moeut

int main(int argc, char** argv) {
  try {
    return moeut::run(argc, argv);
  } catch (const moeut::ConfigError& error) {
    fmt::print(stderr, "moeut-data: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fflush(stdout);
    fmt::print(stderr, "moeut-data: {}\n", error.what());
    return 1;
  }
}
