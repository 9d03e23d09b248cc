#include "data/document_batches.h"

#include "core/check.h"
#include "data/hash.h"

namespace moeut {
namespace {

constexpr size_t kTextOverhead = 64;  // bytes that a text costs besides itself

uint64_t chain(uint64_t hash, const Document& document) {
  const uint64_t kind = document.retracted ? 2 : document.continues ? 1 : 0;
  const uint64_t both[] = {hash, xxh3_64(document.text.data(), document.text.size()) + kind};
  return xxh3_64(both, sizeof both);
}

}  // namespace

DocumentBatches::DocumentBatches(std::vector<std::filesystem::path> files, const ReaderOptions& options,
                                 size_t batch_bytes, const TextPosition& start, std::function<bool()> stop,
                                 std::function<void(const std::string&)> left_out)
    : files_(std::move(files)),
      options_(options),
      batch_bytes_(batch_bytes),
      start_(start),
      stop_(std::move(stop)),
      left_out_(std::move(left_out)),
      position_{.input = start.input, .bytes_before = start.bytes_before, .counts = start.counts} {}

std::optional<TextBatch> DocumentBatches::next() {
  if (!at_start_ && !skip_to_start()) return std::nullopt;
  TextBatch batch;
  Document document;
  for (size_t bytes = 0; bytes < batch_bytes_ && next_text(document);) {
    bytes += document.text.size() + kTextOverhead;
    batch.texts.push_back(std::move(document));
  }
  if (batch.texts.empty()) return std::nullopt;
  batch.after = position_;
  batch.bytes_read = position_.bytes_before + (reader_ ? reader_->consumed() : 0);
  return batch;
}

bool DocumentBatches::next_text(Document& document) {
  for (; position_.input < files_.size(); reader_.reset()) {
    if (!reader_) reader_ = open_documents(files_[position_.input], options_, left_out_);
    if (reader_->next(document)) {
      ++position_.texts;
      position_.texts_hash = chain(position_.texts_hash, document);
      return true;
    }
    position_.counts += reader_->counts();
    position_ = {.input = position_.input + 1,
                 .bytes_before = position_.bytes_before + reader_->consumed(),
                 .counts = position_.counts};
  }
  return false;
}

/// False if it was asked to stop.
bool DocumentBatches::skip_to_start() {
  Document document;
  while (position_.input == start_.input && position_.texts < start_.texts && next_text(document)) {
    stopped_ = stop_ && stop_();
    if (stopped_) return false;
  }
  if (position_.input != start_.input || position_.texts_hash != start_.texts_hash)
    throw IoError(
        fmt::format("the first {} texts of {} are not those that an earlier run has tokenized; restore it, or start "
                    "anew with --no-resume",
                    start_.texts, input_name(files_[start_.input])));
  at_start_ = true;
  return true;
}

}  // namespace moeut
