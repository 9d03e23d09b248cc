// The texts of many inputs in batches, from any place on.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/documents.h"

namespace moeut {

/// How far the inputs are read. A text is what a DocumentReader gives at once: a document or a piece of one.
struct TextPosition {
  uint64_t input = 0;         ///< index of the input that is being read
  uint64_t texts = 0;         ///< of it, that were read
  uint64_t texts_hash = 0;    ///< of those texts
  uint64_t bytes_before = 0;  ///< of the inputs before it
  ReaderCounts counts;        ///< of the inputs before it; its own are counted again when it is read again
};

struct TextBatch {
  std::vector<Document> texts;
  TextPosition after;       ///< where one goes on behind the last of them
  uint64_t bytes_read = 0;  ///< of all inputs, up to there; for progress
};

/// One thread reads, others may not touch it meanwhile.
class DocumentBatches {
 public:
  /// Batches hold `batch_bytes` of text or a little more. Reading begins at `start`: texts before it are read again and
  /// not given. `stop` is asked while that goes on, and ends it when it says yes. `left_out`: see open_documents.
  DocumentBatches(std::vector<std::filesystem::path> files, const ReaderOptions& options, size_t batch_bytes,
                  const TextPosition& start, std::function<bool()> stop,
                  std::function<void(const std::string&)> left_out);

  /// Nothing at the end. Throws IoError: see DocumentReader::next; also if the texts before `start` are no longer what
  /// they were.
  std::optional<TextBatch> next();

  /// True if `stop` ended the reading before the first batch.
  bool stopped() const { return stopped_; }
  /// Behind the last text that was read; at the end, behind the last input.
  const TextPosition& position() const { return position_; }

 private:
  bool next_text(Document& document);
  bool skip_to_start();

  std::vector<std::filesystem::path> files_;
  ReaderOptions options_;
  size_t batch_bytes_;
  TextPosition start_;
  std::function<bool()> stop_;
  std::function<void(const std::string&)> left_out_;
  TextPosition position_;
  bool at_start_ = false, stopped_ = false;
  std::unique_ptr<DocumentReader> reader_;  ///< of input position_.input
};

}  // namespace moeut
