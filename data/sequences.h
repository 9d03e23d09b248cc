// How a corpus is cut into sequences for training.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/dataset.h"

namespace moeut {

enum class Packing : uint8_t { packed, document };

/// Ids [first, first + targets] of the stream: the first `targets` of them are inputs, and the one after each of them
/// is its target.
struct SequenceSpan {
  uint64_t first = 0, targets = 0;
};

/// The sequences of a corpus for a length of T tokens. This is a format: it never changes.
///   packed:    sequence i is the window of T + 1 tokens at i · T of the concatenated stream, whatever documents lie in
///              it: (tokens - 1) div T sequences, all full. Every token but the stream's first is a target once; the
///              last (tokens - 1) mod T do not fill a window and are left out.
///   document:  sequences do not cross documents. A document of L tokens is cut into ceil((L - 1) / T) windows, T
///              apart, the last of them shorter unless T divides L - 1. Every token but each document's first is a
///              target once; there is no tail. Documents of one token or none have no sequence.
class SequenceIndex {
 public:
  /// Reads all document boundaries for Packing::document, O(documents); keeps 8 bytes for every 16 documents.
  /// Throws ConfigError for seq_len below 1, IoError if there is not one sequence.
  SequenceIndex(std::shared_ptr<const TokenDataset> dataset, Packing packing, int64_t seq_len);

  uint64_t sequences() const { return sequences_; }
  /// O(1) for packed, O(log documents) for document.
  SequenceSpan span(uint64_t sequence) const;

 private:
  uint64_t windows_of(uint64_t document) const;

  std::shared_ptr<const TokenDataset> dataset_;
  Packing packing_;
  uint64_t length_;
  uint64_t sequences_ = 0;
  std::vector<uint64_t> first_sequences_;  ///< of documents 0, 16, 32, …
};

/// out[t], t < count: the position within [first, first + count) of the stream at which token first + t's document
/// begins, 0 if it began earlier. O(log documents + count).
void document_starts(const TokenDataset& dataset, uint64_t first, uint64_t count, int32_t* out);

}  // namespace moeut
