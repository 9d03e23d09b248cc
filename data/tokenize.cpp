#include "data/tokenize.h"

#include <atomic>

#include "core/check.h"
#include "data/hash.h"
#include "data/ordered_pipeline.h"
#include "data/shard_folder.h"
#include "data/shard_writer.h"

namespace moeut {
namespace {

constexpr size_t kBatchBytes =
    128 << 10;  // large enough that handing over costs nothing, small enough to balance threads

/// A document, or a piece of one, and its ids.
struct Encoded {
  std::vector<int32_t> ids;
  uint64_t text_bytes = 0;
  bool continues = false, starts = false, validation = false;
};
using Texts = std::vector<Document>;
using Ids = std::vector<Encoded>;

/// All documents of all inputs, in batches. One thread.
class Batches {
 public:
  Batches(std::vector<std::filesystem::path> files, const ReaderOptions& options)
      : files_(std::move(files)), options_(options) {}

  std::optional<Texts> next() {
    Texts batch;
    Document document;
    for (size_t bytes = 0; bytes < kBatchBytes && next_document(document);) {
      bytes += document.text.size() + 64;
      batch.push_back(std::move(document));
    }
    return batch.empty() ? std::nullopt : std::optional(std::move(batch));
  }
  uint64_t consumed() const { return consumed_.load(std::memory_order_relaxed); }
  uint64_t empty_documents() const { return empty_.load(std::memory_order_relaxed); }

 private:
  bool next_document(Document& document) {
    while (true) {
      if (!reader_) {
        if (file_ == files_.size()) return false;
        reader_ = open_documents(files_[file_++], options_);
        empty_before_ = empty_;
      }
      const bool more = reader_->next(document);
      consumed_ = consumed_before_ + reader_->consumed();
      empty_ = empty_before_ + reader_->empty_documents();
      if (more) return true;
      consumed_before_ = consumed_;
      reader_.reset();
    }
  }

  std::vector<std::filesystem::path> files_;
  ReaderOptions options_;
  size_t file_ = 0;
  std::unique_ptr<DocumentReader> reader_;
  uint64_t consumed_before_ = 0, empty_before_ = 0;
  std::atomic<uint64_t> consumed_ = 0, empty_ = 0;  // read by the consumer, for progress
};

Ids encode(const Tokenizer& tokenizer, const TokenizeOptions& options, Texts texts) {
  Ids result;
  result.reserve(texts.size());
  for (Document& document : texts) {
    Encoded encoded;
    encoded.text_bytes = document.text.size();
    encoded.continues = document.continues;
    encoded.validation = options.validation_ratio > 0 && in_validation(document.text, options.validation_ratio);
    if (options.separator.kind == Separator::Kind::kText && !document.continues)
      document.text += options.separator.text;
    encoded.ids = tokenizer.encode(document.text);
    result.push_back(std::move(encoded));
  }
  return result;
}

/// The receiving end: puts documents together again and gives each to its part.
class Parts {
 public:
  Parts(const ShardWorkspace& workspace, const ShardInfo& info, const TokenizeOptions& options,
        std::optional<int32_t> separator_id)
      : separator_id_(separator_id) {
    names_ =
        options.validation_ratio > 0 ? std::vector<std::string>{"train", "validation"} : std::vector<std::string>{""};
    for (const std::string& name : names_)
      writers_.push_back(std::make_unique<ShardWriter>(workspace.part(name), info, options.shard_tokens));
    counts_.resize(names_.size());
    for (size_t i = 0; i < names_.size(); ++i) {
      counts_[i].part = names_[i].empty() ? "all" : names_[i];
      counts_[i].validation_ratio = fmt::format("{}", options.validation_ratio);
    }
  }

  void take(const Encoded& piece) {
    if (!inside_document_) part_ = piece.validation ? 1 : 0;  // its first piece decides
    if (!inside_document_ && piece.continues) ++counts_[part_].split_documents;
    inside_document_ = piece.continues;
    ShardWriter& writer = *writers_[part_];
    counts_[part_].text_bytes += piece.text_bytes;
    writer.append(piece.ids);
    if (piece.continues) return;
    if (writer.document_tokens() == 0)
      ++counts_[part_].empty_documents;
    else if (separator_id_)
      writer.append({&*separator_id_, 1});
    writer.end_document();
  }

  std::vector<Manifest> finish(uint64_t empty_documents) {
    counts_[0].empty_documents += empty_documents;
    std::vector<Manifest> manifests;
    for (size_t i = 0; i < writers_.size(); ++i) manifests.push_back(writers_[i]->finish(counts_[i]));
    return manifests;
  }
  const std::vector<std::string>& names() const { return names_; }

 private:
  std::optional<int32_t> separator_id_;
  std::vector<std::string> names_;
  std::vector<std::unique_ptr<ShardWriter>> writers_;
  std::vector<Manifest> counts_;
  size_t part_ = 0;
  bool inside_document_ = false;
};

uint64_t total_bytes(const std::vector<std::filesystem::path>& files) {
  uint64_t sum = 0;
  std::error_code error;
  for (const auto& file : files)
    if (const auto size = std::filesystem::file_size(file, error); !error) sum += size;
  return sum;
}

void require_documents(const std::vector<Manifest>& manifests, const std::vector<std::filesystem::path>& files) {
  uint64_t all = 0;
  for (const Manifest& manifest : manifests) all += manifest.documents();
  require<IoError>(all > 0, "'{}'{}: there is no text in it, every document is empty; name other inputs",
                   files[0].string(), files.size() > 1 ? fmt::format(" and {} more", files.size() - 1) : "");
  for (const Manifest& manifest : manifests)
    require<IoError>(manifest.documents() > 0,
                     "none of the {} documents falls into the {} part with --validation-ratio {}; change the ratio, or "
                     "make more documents with --documents line or block",
                     all, manifest.part, manifest.validation_ratio);
}

/// Ids are at most as many as bytes of text in practice; the spool and the shard exist together for a moment.
void require_disk_space(const std::filesystem::path& output, const std::vector<std::filesystem::path>& files) {
  const uint64_t needed = total_bytes(files) / 2;
  const uint64_t available = free_disk_space(output);
  require<IoError>(
      available >= needed,
      "'{}' has {} MiB of free disk space and the shards may need {} MiB; free some, or give another --output",
      output.string(), available >> 20, needed >> 20);
}

}  // namespace

bool in_validation(std::string_view text, double ratio) {
  return static_cast<double>(xxh3_64(text.data(), text.size()) >> 11) * 0x1p-53 < ratio;
}

std::vector<Manifest> tokenize(const Tokenizer& tokenizer, const std::vector<std::filesystem::path>& inputs,
                               const std::filesystem::path& output, const TokenizeOptions& options) {
  const std::optional<int32_t> separator_id =
      options.separator.kind == Separator::Kind::kEos ? tokenizer.eos_id() : std::nullopt;
  require<ConfigError>(options.separator.kind != Separator::Kind::kEos || separator_id,
                       "--separator eos: this tokenizer has no EOS piece; use none or a text");
  const auto files = expand_inputs(inputs);
  ShardWorkspace workspace(output, options.overwrite);
  require_disk_space(output, files);

  const ShardInfo info{static_cast<uint64_t>(tokenizer.vocab_size()), tokenizer.sha256(), options.separator};
  Parts parts(workspace, info, options, separator_id);
  Batches batches(files, options.reader);
  const uint64_t total = total_bytes(files);
  OrderedPipeline<Texts, Ids> pipeline(
      std::max(options.threads, 1), [&] { return batches.next(); },
      [&](Texts texts) { return encode(tokenizer, options, std::move(texts)); });
  pipeline.run([&](const Ids& encoded) {
    for (const Encoded& piece : encoded) parts.take(piece);
    if (options.progress) options.progress(batches.consumed(), total);
  });
  std::vector<Manifest> manifests = parts.finish(batches.empty_documents());
  require_documents(manifests, files);
  workspace.publish(parts.names());
  return manifests;
}

}  // namespace moeut
