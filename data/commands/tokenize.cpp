// moeut-data tokenize
#include "data/tokenize.h"
#include <fmt/format.h>
#include <thread>
#include "core/check.h"
#include "core/stop_request.h"
#include "data/commands/commands.h"
#include "data/commands/input_options.h"
#include "data/progress_line.h"

namespace moeut::commands {
namespace {

int default_threads() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

class Tokenize {
 public:
  void declare(CLI::App& command) {
    command.add_option("--tokenizer", tokenizer_, "A SentencePiece model")->required();
    command.add_option("--output", output_, "The folder to write")->required();
    command
        .add_option("--separator", separator_,
                    "What ends every document: none, eos, or a text that is appended before it is encoded")
        ->capture_default_str();
    command
        .add_option(
            "--validation-ratio", options_.validation_ratio,
            "Share of the documents that go to OUTPUT/validation, the others to OUTPUT/train (default: no split)")
        ->check(CLI::Range(0.0, 1.0));
    command.add_option("--shard-tokens", options_.shard_tokens, "A shard is closed when it has as many tokens")
        ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 40))
        ->capture_default_str();
    command
        .add_option("--max-tokens", options_.max_tokens,
                    "End when OUTPUT, or OUTPUT/train, has so many tokens; the last document is cut there; 0: no limit")
        ->capture_default_str();
    command
        .add_option(
            "--on-long-document", on_long_document_,
            "One of more than --max-document-bytes: encoded in pieces (cut where a line or a word ends), error, "
            "or skip and count")
        ->check(CLI::IsMember(std::vector<std::string>{"split", "error", "skip"}))
        ->capture_default_str();
    command
        .add_option("--max-document-bytes", max_document_bytes_,
                    "Of text that is encoded at once, for which SentencePiece needs 90 times as much memory")
        ->check(CLI::Range(uint64_t{64}, uint64_t{1} << 30))
        ->capture_default_str();
    command.add_option("--threads", options_.threads, "Encoding threads; the output does not depend on it")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    command.add_flag("--overwrite", options_.overwrite, "Replace the shards that OUTPUT holds");
    command.add_flag("--no-resume", no_resume_, "Start anew where an interrupted run of this command would go on");
    command
        .add_option("--journal-every", options_.journal_seconds,
                    "Seconds of work that a crash may cost: how far it is, is noted so often")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
    input_.declare(command);
  }

  void run() {
    options_.reader = input_.reader();
    options_.reader.max_document_bytes = max_document_bytes_;
    options_.reader.on_long_document = on_long_document_ == "split"   ? OnLongDocument::kSplit
                                       : on_long_document_ == "error" ? OnLongDocument::kError
                                                                      : OnLongDocument::kSkip;
    const bool named = separator_ == "none" || separator_ == "eos";
    require<ConfigError>(!separator_.empty() && first_zero(separator_) == std::string::npos,
                         "--separator: give none, eos or a text");
    options_.separator = named ? Separator::from(separator_, "") : Separator::from("text", separator_);
    const Tokenizer tokenizer = Tokenizer::load_foreign(tokenizer_);
    report_left_out(input_.paths);
    for (const Manifest& manifest : tokenize_or_stop(tokenizer)) report(manifest);
  }

 private:
  /// Throws Stopped if a signal says so.
  std::vector<Manifest> tokenize_or_stop(const Tokenizer& tokenizer) {
    StopRequest request;
    uint64_t text_bytes = 0;
    options_.resume = !no_resume_;
    options_.stop = [&] { return request.stop(); };
    options_.notice = [](const std::string& line) { fmt::print(stderr, "{}\n", line); };
    options_.left_out = LeftOutRecords();
    std::vector<Manifest> manifests;
    {
      ProgressLine line("tokenizing");
      options_.progress = [&](const TokenizeProgress& progress) {
        text_bytes = progress.text_bytes;
        line.update(progress.input_bytes, progress.input_total, progress.text_bytes);
      };
      manifests = tokenize(tokenizer, input_.paths, output_, options_);
    }
    if (manifests.empty() && request.stop())
      throw Stopped{fmt::format("stopped by {} after {:.1f} MB of text; the same command goes on", request.reason(),
                                static_cast<double>(text_bytes) / 1e6)};
    return manifests;
  }

  static size_t first_zero(const std::string& text) { return text.find('\0'); }

  void report(const Manifest& manifest) const {
    const auto folder = manifest.part == "all" ? output_ : output_ / manifest.part;
    fmt::print("{}: {} tokens, {} documents, {} shard(s), {:.1f} MB of text", folder.string(), manifest.tokens(),
               manifest.documents(), manifest.shards.size(), static_cast<double>(manifest.text_bytes) / 1e6);
    fmt::print("{}", describe_left_out({.empty_documents = manifest.empty_documents,
                                        .bad_records = manifest.bad_records,
                                        .long_documents = manifest.long_documents,
                                        .damaged_inputs = manifest.damaged_inputs}));
    if (manifest.split_documents > 0) fmt::print("; {} long documents encoded in pieces", manifest.split_documents);
    fmt::print("\n");
  }

  InputOptions input_;
  std::filesystem::path tokenizer_, output_;
  std::string separator_ = "none";
  std::string on_long_document_ = "split";
  bool no_resume_ = false;
  uint64_t max_document_bytes_ = ReaderOptions{}.max_document_bytes;
  TokenizeOptions options_{.threads = default_threads()};
};

}  // namespace

void declare_tokenize(CLI::App& app) {
  keep<Tokenize>(app, "tokenize", "Turn text into shards of token ids");
}

}  // namespace moeut::commands
