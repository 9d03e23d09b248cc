// moeut-data inspect, verify and unigram-entropy
#include <fmt/format.h>
#include <algorithm>
#include <cstdio>
#include "core/check.h"
#include "data/commands/commands.h"
#include "data/dataset.h"
#include "data/verify.h"

namespace moeut::commands {
namespace {

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
  void declare(CLI::App& command) {
    command.add_flag("--ids", ids_, "Print all ids, separated by white space, a document a line, and nothing else");
    command.add_option("FOLDER-or-FILE", paths_, "Folders of shards, or shards")->required();
  }

  void run() {
    for (const auto& path : paths_)
      for (const auto& file : shards_of(path)) {
        const Shard shard(file, read_foreign_shard_layout(file));
        ids_ ? print_ids(shard) : print_description(shard);
      }
  }

 private:
  std::vector<std::filesystem::path> paths_;
  bool ids_ = false;
};

class Verify {
 public:
  void declare(CLI::App& command) {
    command.add_option("FOLDER-or-FILE", paths_, "Folders of shards, or shards")->required();
  }

  void run() {
    const VerifyReport report = verify_shards(paths_);
    require<IoError>(report.defects.empty(), "{}", fmt::join(report.defects, "\nmoeut-data: "));
    fmt::print("{} shard(s) whole: {} tokens, {} documents\n", report.shards, report.tokens, report.documents);
  }

 private:
  std::vector<std::filesystem::path> paths_;
};

class UnigramEntropy {
 public:
  void declare(CLI::App& command) { command.add_option("FOLDER", folder_, "A folder of shards")->required(); }

  void run() {
    const auto dataset = TokenDataset::open(folder_);
    fmt::print("unigram_entropy {:.4f} nats/token over {} tokens\n", unigram_entropy(*dataset), dataset->tokens());
  }

 private:
  std::filesystem::path folder_;
};

}  // namespace

void declare_inspect(CLI::App& app) {
  keep<Inspect>(app, "inspect", "Say what shards hold");
}
void declare_verify(CLI::App& app) {
  keep<Verify>(app, "verify", "Check that every shard is whole: hashes, boundaries, ids");
}
void declare_unigram_entropy(CLI::App& app) {
  keep<UnigramEntropy>(app, "unigram-entropy", "Loss of the best model without context, in nats per token");
}

}  // namespace moeut::commands
