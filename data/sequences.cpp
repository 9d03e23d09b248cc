#include "data/sequences.h"

#include <algorithm>

#include "core/check.h"

namespace moeut {
namespace {

/// Documents between two entries of the index.
constexpr uint64_t kStride = 16;

}  // namespace

SequenceIndex::SequenceIndex(std::shared_ptr<const TokenDataset> dataset, Packing packing, int64_t seq_len)
    : dataset_(std::move(dataset)), packing_(packing), length_(static_cast<uint64_t>(seq_len)) {
  require<ConfigError>(seq_len >= 1, "sequences: seq_len {} must be at least 1", seq_len);
  if (packing == Packing::packed) {
    require<IoError>(
        dataset_->tokens() > length_,
        "'{}' holds {} tokens, fewer than one sequence of {} and its last target; give more text, or a smaller "
        "train.seq_len",
        dataset_->folder().string(), dataset_->tokens(), length_);
    sequences_ = (dataset_->tokens() - 1) / length_;
    return;
  }
  for (uint64_t document = 0; document < dataset_->documents(); ++document) {
    if (document % kStride == 0) first_sequences_.push_back(sequences_);
    sequences_ += windows_of(document);
  }
  require<IoError>(sequences_ > 0, "'{}' has no document of two tokens or more, of which a sequence could be made",
                   dataset_->folder().string());
}

uint64_t SequenceIndex::windows_of(uint64_t document) const {
  const uint64_t tokens = dataset_->document_start(document + 1) - dataset_->document_start(document);
  return tokens < 2 ? 0 : (tokens - 1 + length_ - 1) / length_;
}

SequenceSpan SequenceIndex::span(uint64_t sequence) const {
  if (packing_ == Packing::packed) return {sequence * length_, length_};
  const auto after = std::upper_bound(first_sequences_.begin(), first_sequences_.end(), sequence);
  const auto entry = static_cast<uint64_t>(after - first_sequences_.begin()) - 1;
  uint64_t document = entry * kStride, window = sequence - first_sequences_[entry];
  for (uint64_t windows = 0; window >= (windows = windows_of(document)); ++document) window -= windows;
  const uint64_t first = dataset_->document_start(document) + window * length_;
  return {first, std::min(length_, dataset_->document_start(document + 1) - 1 - first)};
}

void document_starts(const TokenDataset& dataset, uint64_t first, uint64_t count, int32_t* out) {
  uint64_t document = dataset.document_at(first);
  for (uint64_t t = 0; t < count; ++document) {
    const uint64_t end = std::min(dataset.document_start(document + 1) - first, count);
    std::fill(out + t, out + end, static_cast<int32_t>(t));
    t = end;
  }
}

}  // namespace moeut
