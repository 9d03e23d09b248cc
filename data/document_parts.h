// Encoded documents to the shards of their parts.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/documents.h"
#include "data/shard_folder.h"
#include "data/shard_writer.h"
#include "data/tokenize.h"

namespace moeut {

/// The ids of a Document.
struct EncodedText {
  std::vector<int32_t> ids;
  uint64_t text_bytes = 0;
  bool continues = false;   ///< the next one is the rest of this document, or retracts it
  bool retracted = false;   ///< the document whose pieces came before does not count
  bool validation = false;  ///< counts if it begins a document
};

/// What a DocumentParts needs to go on in another process.
struct PartsState {
  struct Part {
    Manifest manifest;  ///< of the shards that are closed, with the counts so far
    OpenShard open;
  };
  std::vector<Part> parts;
  uint64_t current = 0;          ///< the part of the last document
  bool inside_document = false;  ///< which goes on
};

/// Puts documents together again from their pieces and writes each to its part: train or validation, or the only one.
class DocumentParts {
 public:
  /// `state`: of an earlier one, to go on from; without parts: begin. `separator_id` ends each document.
  DocumentParts(const ShardWorkspace& workspace, const ShardInfo& info, const TokenizeOptions& options,
                std::optional<int32_t> separator_id, const PartsState& state);

  /// Does nothing once full().
  void take(const EncodedText& text);
  /// The first part has TokenizeOptions::max_tokens.
  bool full() const { return max_tokens_ > 0 && writers_[0]->tokens() >= max_tokens_; }
  /// Between the pieces of a document. What is noted then cannot be retracted.
  bool inside_document() const { return inside_document_; }
  /// Shards closed so far, in all parts.
  uint64_t closed_shards() const;
  uint64_t text_bytes() const;

  /// Makes all that was taken durable, and says how far it is. See ShardWriter::sync and drop_closed_spools.
  PartsState sync();
  void drop_closed_spools();

  /// Closes the last shard of each part.
  void close_shards();
  /// Writes the manifests and returns them. The counts of what the inputs had besides go to the first part's.
  std::vector<Manifest> finish(const ReaderCounts& counts);

 private:
  void begin_document(const EncodedText& text);
  void append(std::span<const int32_t> ids);
  void retract_document();

  std::optional<int32_t> separator_id_;
  uint64_t max_tokens_;
  std::vector<std::unique_ptr<ShardWriter>> writers_;
  std::vector<Manifest> counts_;
  size_t part_ = 0;
  bool inside_document_ = false;
  uint64_t document_text_bytes_ = 0;  ///< of the document, as far as this object has taken it
};

/// Names of the parts: {""}, or {"train", "validation"}.
std::vector<std::string> part_names(const TokenizeOptions& options);

}  // namespace moeut
