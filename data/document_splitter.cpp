#include "data/document_splitter.h"

#include <optional>
#include <utility>

#include "core/check.h"
#include "data/input_errors.h"
#include "data/json_lines.h"
#include "data/line_reader.h"

namespace moeut {
namespace {

std::string_view line_end(std::string_view piece) {
  if (piece.ends_with("\r\n")) return "\r\n";
  return piece.ends_with('\n') ? "\n" : "";
}

std::string_view without_end(std::string_view piece) {
  return piece.substr(0, piece.size() - line_end(piece).size());
}

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

class LineBased : public DocumentSplitter {
 public:
  explicit LineBased(const std::filesystem::path& path) : lines_(path) {}
  std::string place() const override { return lines_.place(); }
  uint64_t consumed() const override { return lines_.consumed(); }

 protected:
  LineReader lines_;
};

/// The whole file is one document.
class FileSplitter final : public LineBased {
 public:
  using LineBased::LineBased;
  bool next(DocumentPart& part) override {
    if (ended_) return false;
    part = {};
    ended_ = part.ends = !lines_.next(part.bytes);
    return true;
  }

 private:
  bool ended_ = false;
};

/// A line without its end is a document.
class LineSplitter final : public LineBased {
 public:
  using LineBased::LineBased;
  bool next(DocumentPart& part) override {
    std::string_view piece;
    if (lines_.next(piece)) {
      part = {without_end(piece), piece.ends_with('\n')};
      inside_ = !part.ends;
      return true;
    }
    part = {{}, true};
    return std::exchange(inside_, false);  // the last line has no end
  }

 private:
  bool inside_ = false;
};

/// Lines up to a blank one are a document, without the end of the last.
class BlockSplitter final : public LineBased {
 public:
  using LineBased::LineBased;
  bool next(DocumentPart& part) override {
    std::string_view piece;
    if (held_) return give_held(part);
    while (lines_.next(piece)) {
      const bool blank = std::exchange(at_line_start_, piece.ends_with('\n')) && at_line_start_ && is_blank(piece);
      if (blank && inside_) return end_block(part);
      if (!blank) return give_text(piece, part);
    }
    return inside_ && end_block(part);
  }

 private:
  /// The end of the line before belongs to the block, now that another line follows: it is given first.
  bool give_text(std::string_view piece, DocumentPart& part) {
    const std::string_view before = std::exchange(pending_end_, line_end(piece));
    inside_ = true;
    held_ = without_end(piece);
    if (before.empty()) return give_held(part);
    part = {before, false};
    return true;
  }
  bool give_held(DocumentPart& part) {
    part = {*std::exchange(held_, std::nullopt), false};
    return true;
  }
  bool end_block(DocumentPart& part) {
    part = {{}, true};
    pending_end_ = {};
    inside_ = false;
    return true;
  }

  bool at_line_start_ = true, inside_ = false;
  std::string_view pending_end_;          ///< of the block's last line
  std::optional<std::string_view> held_;  ///< the line behind an end that was given
};

/// A string in the JSON object of a line is a document.
class JsonSplitter final : public LineBased {
 public:
  JsonSplitter(const std::filesystem::path& path, const std::string& field) : LineBased(path), field_(field) {}
  bool next(DocumentPart& part) override {
    do {
      if (!read_line()) return false;
    } while (is_blank(line_));
    text_ = json_text_field(line_, field_, place());
    if (line_.capacity() > kKeptLineBytes) line_ = {};  // a long text is in memory often enough
    part = {text_, true};
    return true;
  }

 private:
  static constexpr size_t kMaxLineBytes = 64 << 20, kKeptLineBytes = 1 << 20;

  bool read_line() {
    line_.clear();
    bool too_long = false, any = false, ended = false;
    for (std::string_view piece; !ended && lines_.next(piece); ended = piece.ends_with('\n')) {
      any = true;
      too_long = too_long || line_.size() + piece.size() > kMaxLineBytes;
      if (!too_long) line_ += piece;
    }
    require<BadRecord>(!too_long, "{}: a line of more than {} MiB; is this JSON lines?", place(), kMaxLineBytes >> 20);
    return any;
  }

  std::string field_, line_, text_;
};

}  // namespace

std::unique_ptr<DocumentSplitter> open_splitter(const std::filesystem::path& path, const ReaderOptions& options) {
  if (is_json_lines(path, options.format)) return std::make_unique<JsonSplitter>(path, options.text_field);
  switch (options.unit) {
    case DocumentUnit::kLine:
      return std::make_unique<LineSplitter>(path);
    case DocumentUnit::kBlock:
      return std::make_unique<BlockSplitter>(path);
    default:
      return std::make_unique<FileSplitter>(path);
  }
}

}  // namespace moeut
