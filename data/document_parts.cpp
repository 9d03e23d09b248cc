#include "data/document_parts.h"

#include <algorithm>

#include "core/check.h"

namespace moeut {

std::vector<std::string> part_names(const TokenizeOptions& options) {
  if (options.validation_ratio > 0) return {"train", "validation"};
  return {""};
}

DocumentParts::DocumentParts(const ShardWorkspace& workspace, const ShardInfo& info, const TokenizeOptions& options,
                             std::optional<int32_t> separator_id, const PartsState& state)
    : separator_id_(separator_id),
      max_tokens_(options.max_tokens),
      part_(state.current),
      inside_document_(state.inside_document) {
  const std::vector<std::string> names = part_names(options);
  for (size_t i = 0; i < names.size(); ++i) {
    const PartsState::Part begin{.manifest = {.info = info,
                                              .part = names[i].empty() ? "all" : names[i],
                                              .validation_ratio = fmt::format("{}", options.validation_ratio)},
                                 .open = {}};
    const PartsState::Part& from = i < state.parts.size() ? state.parts[i] : begin;
    counts_.push_back(from.manifest);
    writers_.push_back(std::make_unique<ShardWriter>(workspace.part(names[i]), info, options.shard_tokens,
                                                     from.manifest.shards, from.open, *options.file_system));
  }
}

void DocumentParts::take(const EncodedText& text) {
  if (full()) return;
  if (text.retracted) return retract_document();
  if (!inside_document_) begin_document(text);
  inside_document_ = text.continues;
  ShardWriter& writer = *writers_[part_];
  counts_[part_].text_bytes += text.text_bytes;
  document_text_bytes_ += text.text_bytes;
  append(text.ids);
  if (full()) inside_document_ = false;
  if (inside_document_) return;
  if (writer.document_tokens() == 0)
    ++counts_[part_].empty_documents;
  else if (separator_id_)
    append({&*separator_id_, 1});
  writer.end_document();
}

/// As many as there is room for.
void DocumentParts::append(std::span<const int32_t> ids) {
  ShardWriter& writer = *writers_[part_];
  const bool limited = max_tokens_ > 0 && part_ == 0;
  writer.append(limited ? ids.first(std::min<uint64_t>(ids.size(), max_tokens_ - writer.tokens())) : ids);
}

void DocumentParts::begin_document(const EncodedText& text) {
  part_ = text.validation ? 1 : 0;  // its first piece decides
  document_text_bytes_ = 0;
  if (text.continues) ++counts_[part_].split_documents;
}

void DocumentParts::retract_document() {
  require<Error>(inside_document_, "there is no unfinished document to retract");
  writers_[part_]->abandon_document();
  counts_[part_].text_bytes -= document_text_bytes_;
  --counts_[part_].split_documents;
  inside_document_ = false;
}

uint64_t DocumentParts::closed_shards() const {
  uint64_t sum = 0;
  for (const auto& writer : writers_) sum += writer->closed().size();
  return sum;
}

uint64_t DocumentParts::text_bytes() const {
  uint64_t sum = 0;
  for (const Manifest& counts : counts_) sum += counts.text_bytes;
  return sum;
}

PartsState DocumentParts::sync() {
  PartsState state{.parts = {}, .current = part_, .inside_document = inside_document_};
  for (size_t i = 0; i < writers_.size(); ++i) {
    const OpenShard open = writers_[i]->sync();
    counts_[i].shards = writers_[i]->closed();
    state.parts.push_back({counts_[i], open});
  }
  return state;
}

void DocumentParts::drop_closed_spools() {
  for (const auto& writer : writers_) writer->drop_closed_spools();
}

void DocumentParts::close_shards() {
  for (const auto& writer : writers_) writer->close_shard();
}

std::vector<Manifest> DocumentParts::finish(const ReaderCounts& counts) {
  counts_[0].empty_documents += counts.empty_documents;
  counts_[0].bad_records += counts.bad_records;
  counts_[0].long_documents += counts.long_documents;
  counts_[0].damaged_inputs += counts.damaged_inputs;
  for (size_t i = 0; i < writers_.size(); ++i) counts_[i] = writers_[i]->finish(counts_[i]);
  return counts_;
}

}  // namespace moeut
