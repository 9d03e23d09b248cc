#include "data/documents.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "data/document_splitter.h"
#include "data/input_errors.h"
#include "data/utf8.h"

namespace moeut {
namespace {

constexpr uint64_t kLeastPieceBytes = 16;  // room for any character

/// Where a piece of at most `max_bytes` of a longer text ends.
size_t cut_position(const std::string& text, uint64_t max_bytes) {
  const size_t line_end = text.rfind('\n', max_bytes - 1);
  if (line_end != std::string::npos) return line_end + 1;
  const size_t space = text.find_last_of(" \t\r\f\v", max_bytes - 1);
  if (space != std::string::npos) return space + 1;
  return character_boundary(text, max_bytes);
}

std::string describe_invalid(std::string_view text, size_t bad) {
  const bool utf16 = text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF");  // its byte-order mark
  return fmt::format(
      "not valid UTF-8 (byte 0x{:02x}); convert the input, for example with iconv -f {} -t UTF-8, leave such documents "
      "out with --on-bad-record skip, or remove it from the inputs",
      static_cast<unsigned char>(text[bad]), utf16 ? "UTF-16" : "ISO-8859-1");
}

/// Checks the documents that a splitter finds, and gives them out in pieces of bounded size.
class CheckedReader final : public DocumentReader {
 public:
  CheckedReader(std::unique_ptr<DocumentSplitter> splitter, const ReaderOptions& options,
                std::function<void(const std::string&)> left_out)
      : splitter_(std::move(splitter)),
        options_(options),
        max_bytes_(std::max(options.max_document_bytes, kLeastPieceBytes)),
        left_out_(std::move(left_out)) {}

  bool next(Document& document) override {
    while (!take(document)) {
      if (ended_) return false;
      read_part();
    }
    return true;
  }
  uint64_t consumed() const override { return splitter_->consumed(); }
  const ReaderCounts& counts() const override { return counts_; }

 private:
  /// What is ready to be given out, if anything.
  bool take(Document& document) {
    document = {};
    if (std::exchange(retract_, false)) {
      given_ = false;
      document.retracted = true;
      return true;
    }
    refill();
    if (text_.size() > max_bytes_) {  // so something is left for the piece behind this one
      const size_t cut = cut_position(text_, max_bytes_);
      document = {text_.substr(0, cut), true};
      text_.erase(0, cut);
      return given_ = true;
    }
    if (!std::exchange(complete_, false)) return false;
    document.text = std::exchange(text_, {});
    given_ = false;
    return true;
  }

  void read_part() {
    DocumentPart part;
    try {
      ended_ = !splitter_->next(part);
    } catch (const BadRecord& bad) {
      leave_out(counts_.bad_records, bad);
      leaving_out_ = false;  // the next part is of the next document
      return;
    } catch (const DamagedInput& damage) {
      leave_out(counts_.damaged_inputs, damage);
      ended_ = true;
    }
    if (ended_) return;
    if (!leaving_out_) append(part.bytes);
    if (part.ends) end_document();
  }

  void append(std::string_view bytes) {
    const size_t bad = first_invalid_utf8(bytes);
    if (bad < bytes.size())
      return leave_out(counts_.bad_records, BadRecord(splitter_->place() + ": " + describe_invalid(bytes, bad)));
    rest_ = bytes;
    const bool is_long = text_.size() + rest_.size() > max_bytes_;
    if (is_long && options_.on_long_document != OnLongDocument::kSplit) refuse_long();
  }

  /// A part may be much longer than a piece: no more of it is copied than the next piece needs.
  void refill() {
    if (text_.size() > max_bytes_) return;
    const std::string_view some = rest_.substr(0, max_bytes_ + 1 - text_.size());
    text_ += some;
    rest_.remove_prefix(some.size());
  }

  void refuse_long() {
    const std::string what =
        fmt::format("{}: a document of more than {} bytes; see --on-long-document and --max-document-bytes",
                    splitter_->place(), max_bytes_);
    if (options_.on_long_document == OnLongDocument::kError) throw IoError(what);
    drop(counts_.long_documents, what);
  }

  template <class Reason>
  void leave_out(uint64_t& count, const Reason& reason) {
    if (options_.on_bad_record == OnBadRecord::kError) throw Reason(reason);
    drop(count, reason.what());
  }

  void drop(uint64_t& count, const std::string& reason) {
    ++count;
    if (left_out_) left_out_(reason);
    text_.clear();
    rest_ = {};
    retract_ = given_;
    leaving_out_ = true;
  }

  void end_document() {
    if (std::exchange(leaving_out_, false)) return;
    complete_ = given_ || !text_.empty() || !rest_.empty();
    if (!complete_) ++counts_.empty_documents;
  }

  std::unique_ptr<DocumentSplitter> splitter_;
  ReaderOptions options_;
  uint64_t max_bytes_;
  std::function<void(const std::string&)> left_out_;
  ReaderCounts counts_;
  std::string text_;          ///< of the current document, not given out yet
  std::string_view rest_;     ///< what follows it, in the splitter's memory; empty when the next part is asked for
  bool complete_ = false;     ///< text_ ends the document
  bool given_ = false;        ///< pieces of the document have been given out
  bool leaving_out_ = false;  ///< the document, up to its end
  bool retract_ = false;      ///< the pieces that were given out
  bool ended_ = false;        ///< the input
};

}  // namespace

ReaderCounts& ReaderCounts::operator+=(const ReaderCounts& other) {
  empty_documents += other.empty_documents;
  bad_records += other.bad_records;
  long_documents += other.long_documents;
  damaged_inputs += other.damaged_inputs;
  return *this;
}

std::unique_ptr<DocumentReader> open_documents(const std::filesystem::path& path, const ReaderOptions& options,
                                               std::function<void(const std::string&)> left_out) {
  return std::make_unique<CheckedReader>(open_splitter(path, options), options, std::move(left_out));
}

}  // namespace moeut
