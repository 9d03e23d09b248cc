#include "data/tokenize.h"

#include <algorithm>
#include <chrono>

#include "core/check.h"
#include "data/document_batches.h"
#include "data/document_parts.h"
#include "data/hash.h"
#include "data/input_errors.h"
#include "data/ordered_pipeline.h"
#include "data/shard_folder.h"
#include "data/tokenize_journal.h"
#include "data/tokenize_space.h"

namespace moeut {
namespace {

using Clock = std::chrono::steady_clock;
using Phase = TokenizeState::Phase;

/// Thrown through the pipeline when options.stop says so.
struct Stopped {};
/// Thrown through the pipeline when there are as many tokens as were asked for.
struct Enough {};

struct EncodedBatch {
  std::vector<EncodedText> texts;
  TextPosition after;
  uint64_t bytes_read = 0;
};

EncodedBatch encode(const Tokenizer& tokenizer, const TokenizeOptions& options, TextBatch batch) {
  EncodedBatch result{.texts = {}, .after = batch.after, .bytes_read = batch.bytes_read};
  result.texts.reserve(batch.texts.size());
  for (Document& document : batch.texts) {
    EncodedText encoded;
    encoded.text_bytes = document.text.size();
    encoded.continues = document.continues;
    encoded.retracted = document.retracted;
    encoded.validation = options.validation_ratio > 0 && in_validation(document.text, options.validation_ratio);
    if (options.separator.kind == Separator::Kind::kText && !document.continues)
      document.text += options.separator.text;
    if (!document.retracted) encoded.ids = tokenizer.encode(document.text);
    result.texts.push_back(std::move(encoded));
  }
  return result;
}

uint64_t text_bytes_of(const TextBatch& batch) {
  uint64_t bytes = 0;
  for (const Document& document : batch.texts) bytes += document.text.size();
  return bytes;
}

/// What is wrong if a part, or all, got no document; otherwise empty.
std::string find_empty_part(const PartsState& state, const std::vector<std::filesystem::path>& files,
                            const ReaderCounts& counts) {
  uint64_t all = 0;
  for (const auto& part : state.parts) all += part.manifest.documents();
  if (all == 0)
    return fmt::format("{}{}: there is no text in it, every document is empty{}; name other inputs",
                       input_name(files[0]), files.size() > 1 ? fmt::format(" and {} more", files.size() - 1) : "",
                       counts.left_out() > 0 ? fmt::format(" or was left out ({})", counts.left_out()) : "");
  for (const auto& [manifest, open] : state.parts)
    if (manifest.documents() == 0)
      return fmt::format(
          "none of the {} documents falls into the {} part with --validation-ratio {}; change the ratio, or make more "
          "documents with --documents line or block",
          all, manifest.part, manifest.validation_ratio);
  return "";
}

/// One call of tokenize(), whose state is taken up from the journal and noted there.
class Tokenization {
 public:
  Tokenization(const Tokenizer& tokenizer, const TokenizeOptions& options, std::vector<std::filesystem::path> files,
               std::optional<int32_t> separator_id, const std::filesystem::path& output)
      : tokenizer_(tokenizer),
        options_(options),
        files_(std::move(files)),
        separator_id_(separator_id),
        output_(output),
        info_{static_cast<uint64_t>(tokenizer.vocab_size()), tokenizer.sha256(), options.separator},
        workspace_(output, options.overwrite, *options.file_system),
        journal_(workspace_.folder(), describe_work(tokenizer, options, files_), *options.file_system) {}

  std::vector<Manifest> run() {
    take_up_or_begin();
    try {
      if (state_.phase == Phase::kEncoding) encode_all();
      publish();
    } catch (const Stopped&) {
      return {};
    } catch (const IoError& error) {
      if (!noted_) throw;
      throw IoError(fmt::format("{}; what is done is kept: the same command goes on from there", error.what()));
    }
    std::vector<Manifest> manifests;
    for (auto& part : state_.parts.parts) manifests.push_back(std::move(part.manifest));
    return manifests;
  }

 private:
  void take_up_or_begin() {
    const bool taken_up = take_up();
    if (state_.phase == Phase::kEncoding) workspace_.require_free(options_.overwrite);
    if (!taken_up) {
      workspace_.clear();
      parts_.emplace(workspace_, info_, options_, separator_id_, PartsState{});
    }
    require_disk_space(output_, least_disk_space(files_, state_.bytes_read, info_.item_bytes(), options_.shard_tokens,
                                                 options_.max_tokens));
    journal_.begin();
  }

  /// Goes on from the journal that is there, if it is one of this work.
  bool take_up() {
    if (!options_.resume) return false;
    try {
      const std::optional<TokenizeState> found = journal_.find();
      if (!found) return false;
      if (found->phase == Phase::kEncoding) parts_.emplace(workspace_, info_, options_, separator_id_, found->parts);
      state_ = *found;
    } catch (const IoError& error) {
      notice(fmt::format("starting anew, what an interrupted run has left is no use: {}", error.what()));
      return false;
    }
    noted_ = true;
    const bool reading = state_.position.input < files_.size();
    notice(fmt::format("resuming {}: {:.1f} MB of the inputs are done",
                       reading ? fmt::format("in {} after {} documents", input_name(files_[state_.position.input]),
                                             state_.position.texts)
                               : "behind the last input",
                       static_cast<double>(state_.bytes_read) / 1e6));
    return true;
  }

  void notice(const std::string& line) const {
    if (options_.notice) options_.notice(line);
  }

  void encode_all() {
    DocumentBatches batches(files_, options_.reader, options_.batch_bytes, state_.position, options_.stop,
                            options_.left_out);
    OrderedPipeline<TextBatch, EncodedBatch> pipeline(
        std::max(options_.threads, 1), [&] { return batches.next(); },
        [&](TextBatch batch) { return encode(tokenizer_, options_, std::move(batch)); }, text_bytes_of,
        most_bytes_under_way());
    const uint64_t total = total_bytes(files_);
    try {
      if (!parts_->full()) pipeline.run([&](const EncodedBatch& batch) { take(batch, total); });
    } catch (const InputInterrupted&) {
      note();
      throw Stopped{};
    } catch (const Enough&) {
    }
    if (batches.stopped()) throw Stopped{};
    state_.position = batches.position();
    finish_shards();
  }

  /// Ids take up to four times the memory of their text: batches of long documents must not pile up.
  uint64_t most_bytes_under_way() const {
    return (uint64_t{8} << 20) + static_cast<uint64_t>(options_.threads) * 2 * options_.batch_bytes;
  }

  void finish_shards() {
    parts_->close_shards();
    if (const std::string lack = find_empty_part(parts_->sync(), files_, state_.position.counts); !lack.empty()) {
      workspace_.clear();  // going on would come to the same
      noted_ = false;
      throw IoError(lack);
    }
    note();
    const std::vector<Manifest> manifests = parts_->finish(state_.position.counts);
    for (size_t i = 0; i < manifests.size(); ++i) state_.parts.parts[i].manifest = manifests[i];
  }

  void take(const EncodedBatch& batch, uint64_t total) {
    const uint64_t closed = parts_->closed_shards();
    for (const EncodedText& text : batch.texts) parts_->take(text);
    state_.position = batch.after;
    state_.bytes_read = batch.bytes_read;
    if (options_.progress) options_.progress({batch.bytes_read, total, parts_->text_bytes()});
    if (parts_->full()) throw Enough{};
    const bool stop = options_.stop && options_.stop();
    const bool due = Clock::now() - last_note_ >= std::chrono::duration<double>(options_.journal_seconds);
    if (stop || due || parts_->closed_shards() != closed) note();
    if (stop) throw Stopped{};
  }

  /// Makes what is done durable and notes it; only then are the spools of closed shards no longer needed. What is noted
  /// cannot be retracted, so the middle of a document that may yet turn out bad is no place for it.
  void note() {
    if (parts_->inside_document() && options_.reader.on_bad_record == OnBadRecord::kSkip) return;
    state_.parts = parts_->sync();
    save();
    parts_->drop_closed_spools();
    last_note_ = Clock::now();
  }

  void save() {
    journal_.save(state_);
    workspace_.keep();
    noted_ = true;
  }

  void publish() {
    if (state_.phase == Phase::kEncoding) {
      state_.phase = Phase::kReplacing;
      save();
    }
    if (state_.phase == Phase::kReplacing) {
      workspace_.remove_old();
      state_.phase = Phase::kMoving;
      save();
    }
    workspace_.move_in(part_names(options_));
  }

  const Tokenizer& tokenizer_;
  const TokenizeOptions& options_;
  std::vector<std::filesystem::path> files_;
  std::optional<int32_t> separator_id_;
  std::filesystem::path output_;
  ShardInfo info_;
  ShardWorkspace workspace_;
  TokenizeJournal journal_;
  TokenizeState state_;
  std::optional<DocumentParts> parts_;
  Clock::time_point last_note_ = Clock::now();
  bool noted_ = false;  ///< the journal is of this work
};

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
  return Tokenization(tokenizer, options, expand_inputs(inputs), separator_id, output).run();
}

}  // namespace moeut
