#include "data/documents.h"

#include <algorithm>
#include <deque>

#include "core/check.h"
#include "data/json_lines.h"
#include "data/line_reader.h"
#include "data/utf8.h"

namespace moeut {
namespace {

/// Collects the text of one document and gives it out in pieces of bounded size.
class Pieces {
 public:
  explicit Pieces(uint64_t max_bytes) : max_bytes_(max_bytes) {}

  void append(std::string_view text) { text_ += text; }
  /// Drops bytes at the end (a line's end that is not part of the document).
  void drop_end(size_t bytes) { text_.resize(text_.size() - bytes); }
  std::string_view text() const { return text_; }
  /// A piece must be taken before more text may be appended. One character is left for what follows, so that the last
  /// piece of a document is never empty.
  bool full() const { return text_.size() > max_bytes_ + kSlack; }

  /// A piece of at most max_bytes; what is beyond stays.
  Document take() {
    if (text_.size() <= max_bytes_) return {std::exchange(text_, {}), false};
    const size_t cut = cut_position();
    Document piece{text_.substr(0, cut), true};
    text_.erase(0, cut);
    return piece;
  }

 private:
  static constexpr size_t kSlack = 2;  // a line end that may yet be dropped

  size_t cut_position() const {
    const size_t line_end = text_.rfind('\n', max_bytes_ - 1);
    if (line_end != std::string::npos) return line_end + 1;
    const size_t space = text_.find_last_of(" \t\r\f\v", max_bytes_ - 1);
    if (space != std::string::npos) return space + 1;
    const size_t character = character_boundary(text_, max_bytes_);
    return character > 0 ? character : max_bytes_;
  }

  uint64_t max_bytes_;
  std::string text_;
};

/// Common to all readers: UTF-8 is checked piece by piece, empty documents are counted.
class CheckedReader : public DocumentReader {
 public:
  CheckedReader(const std::filesystem::path& path, const ReaderOptions& options)
      : lines_(path), pieces_(std::max<uint64_t>(options.max_document_bytes, 16)) {}
  uint64_t consumed() const override { return lines_.consumed(); }
  uint64_t empty_documents() const override { return empty_; }

 protected:
  /// A long line's part may end inside a character, so its last bytes wait in `tail_` for the next part.
  void append_checked(std::string_view part, bool line_complete) {
    if (tail_.empty() && line_complete) return append_valid(part);
    tail_ += part;
    const size_t keep = line_complete ? 0 : std::min<size_t>(tail_.size(), 3);
    const size_t end = keep == 0 ? tail_.size() : character_boundary(tail_, tail_.size() - keep);
    append_valid(std::string_view(tail_).substr(0, end));
    tail_.erase(0, end);
  }
  void append_valid(std::string_view text) {
    const size_t bad = first_invalid_utf8(text);
    if (bad < text.size()) {
      const bool marked = text.starts_with("\xFF\xFE") || text.starts_with("\xFE\xFF");  // UTF-16's byte-order mark
      throw IoError(fmt::format(
          "{}:{}: not valid UTF-8 (byte 0x{:02x}); convert the file, for example with iconv -f {} -t UTF-8, or "
          "remove it from the inputs",
          lines_.path(), lines_.line(), static_cast<unsigned char>(text[bad]),
          marked && lines_.line() == 1 ? "UTF-16" : "ISO-8859-1"));
    }
    pieces_.append(text);
  }
  void flush_tail() { append_checked("", true); }

  LineReader lines_;
  Pieces pieces_;
  std::string tail_;
  uint64_t empty_ = 0;
};

bool ends_line(std::string_view piece) {
  return !piece.empty() && piece.back() == '\n';
}

size_t line_end_length(std::string_view text) {
  if (text.ends_with("\r\n")) return 2;
  return text.ends_with('\n') ? 1 : 0;
}

class FileReader final : public CheckedReader {
 public:
  using CheckedReader::CheckedReader;
  bool next(Document& document) override {
    std::string_view part;
    while (!pieces_.full() && !ended_) {
      if (lines_.next(part)) {
        append_checked(part, ends_line(part));
      } else {
        flush_tail();
        ended_ = true;
        if (pieces_.text().empty()) ++empty_;
      }
    }
    if (pieces_.text().empty()) return false;
    document = pieces_.take();
    return true;
  }

 private:
  bool ended_ = false;
};

class LineDocuments final : public CheckedReader {
 public:
  using CheckedReader::CheckedReader;
  bool next(Document& document) override {
    std::string_view part;
    while (!pieces_.full() && !line_done_) {
      if (!lines_.next(part)) {
        flush_tail();
        if (pieces_.text().empty()) return false;
        line_done_ = true;
        break;
      }
      append_checked(part, ends_line(part));
      if (ends_line(part)) finish_line();
    }
    document = pieces_.take();
    line_done_ = line_done_ && !pieces_.text().empty();
    return true;
  }

 private:
  void finish_line() {
    pieces_.drop_end(line_end_length(pieces_.text()));
    line_done_ = !pieces_.text().empty();
    if (!line_done_) ++empty_;
  }
  bool line_done_ = false;
};

class BlockDocuments final : public CheckedReader {
 public:
  using CheckedReader::CheckedReader;
  bool next(Document& document) override {
    std::string_view part;
    while (!pieces_.full() && !block_done_ && lines_.next(part)) take_part(part);
    if (!pieces_.full() && !block_done_) finish_block();  // the end of the file
    if (pieces_.text().empty()) return false;
    document = pieces_.take();
    block_done_ = block_done_ && !pieces_.text().empty();
    return true;
  }

 private:
  void take_part(std::string_view part) {
    const bool blank = line_starts_ && part.find_first_not_of(" \t\r\n") == std::string_view::npos && ends_line(part);
    line_starts_ = ends_line(part);
    if (!blank)
      append_checked(part, ends_line(part));
    else if (!pieces_.text().empty())
      finish_block();
  }
  void finish_block() {
    flush_tail();
    pieces_.drop_end(line_end_length(pieces_.text()));
    block_done_ = !pieces_.text().empty();
  }
  bool line_starts_ = true, block_done_ = false;
};

class JsonLines final : public CheckedReader {
 public:
  JsonLines(const std::filesystem::path& path, const ReaderOptions& options)
      : CheckedReader(path, options), field_(options.text_field) {}
  bool next(Document& document) override {
    while (pieces_.text().empty()) {
      if (!read_line()) return false;
      if (line_.find_first_not_of(" \t\r\n") == std::string::npos) continue;
      pieces_.append(json_text_field(line_, field_, lines_.path(), lines_.line()));
      if (pieces_.text().empty()) ++empty_;
    }
    document = pieces_.take();
    return true;
  }

 private:
  static constexpr size_t kMaxLineBytes = 256 << 20;

  bool read_line() {
    line_.clear();
    std::string_view part;
    while (lines_.next(part)) {
      line_ += part;
      require<IoError>(line_.size() <= kMaxLineBytes, "{}:{}: a line of more than {} MiB; is this file JSON lines?",
                       lines_.path(), lines_.line(), kMaxLineBytes >> 20);
      if (ends_line(part)) return true;
    }
    return !line_.empty();
  }
  std::string field_, line_;
};

/// The name without .gz or .zst.
std::filesystem::path uncompressed_name(const std::filesystem::path& path) {
  return path.extension() == ".gz" || path.extension() == ".zst" ? path.stem() : path.filename();
}

bool is_json_lines(const std::filesystem::path& path) {
  const auto ending = uncompressed_name(path).extension();
  return ending == ".jsonl" || ending == ".ndjson" || ending == ".json";
}

bool is_text(const std::filesystem::path& path) {
  const auto ending = uncompressed_name(path).extension();
  return ending == ".txt" || ending == ".text";
}

std::vector<std::filesystem::path> files_below(const std::filesystem::path& folder,
                                               std::vector<std::filesystem::path>* left_out) {
  namespace stdfs = std::filesystem;
  std::vector<stdfs::path> files;
  for (auto it = stdfs::recursive_directory_iterator(folder); it != stdfs::recursive_directory_iterator(); ++it) {
    const bool hidden = it->path().filename().string().starts_with('.');
    if (hidden && it->is_directory()) it.disable_recursion_pending();
    if (hidden || !it->is_regular_file()) continue;
    if (is_json_lines(it->path()) || is_text(it->path()))
      files.push_back(it->path());
    else if (left_out != nullptr)
      left_out->push_back(it->path());
  }
  std::sort(files.begin(), files.end());
  require<IoError>(
      !files.empty(),
      "folder '{}' holds no text: nothing below it ends in .txt, .text, .jsonl, .ndjson or .json (or these "
      "with .gz or .zst); name files of other kinds one by one",
      folder.string());
  return files;
}

}  // namespace

std::unique_ptr<DocumentReader> open_documents(const std::filesystem::path& path, const ReaderOptions& options) {
  if (is_json_lines(path)) return std::make_unique<JsonLines>(path, options);
  switch (options.unit) {
    case DocumentUnit::kLine:
      return std::make_unique<LineDocuments>(path, options);
    case DocumentUnit::kBlock:
      return std::make_unique<BlockDocuments>(path, options);
    default:
      return std::make_unique<FileReader>(path, options);
  }
}

std::vector<std::filesystem::path> expand_inputs(const std::vector<std::filesystem::path>& inputs,
                                                 std::vector<std::filesystem::path>* left_out) {
  std::vector<std::filesystem::path> files;
  for (const auto& input : inputs) {
    std::error_code error;
    const auto status = std::filesystem::status(input, error);
    require<IoError>(std::filesystem::exists(status), "cannot read '{}': no such file or folder; check the path",
                     input.string());
    if (std::filesystem::is_directory(status)) {
      const auto below = files_below(input, left_out);
      files.insert(files.end(), below.begin(), below.end());
    } else {
      files.push_back(input);
    }
  }
  return files;
}

}  // namespace moeut
