// Documents out of text files, one after another, in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace moeut {

/// What is one document of a text file.
enum class DocumentUnit {
  kFile,   ///< the whole file, byte for byte
  kLine,   ///< a line, without its end (\n or \r\n)
  kBlock,  ///< lines up to a blank one (nothing but spaces and tabs); joined by \n, without the last line's end
};

/// A document, or a piece of one that is longer than ReaderOptions::max_document_bytes. Valid UTF-8, never empty.
struct Document {
  std::string text;
  bool continues = false;  ///< the next Document is the rest of this one
};

struct ReaderOptions {
  DocumentUnit unit = DocumentUnit::kFile;
  std::string text_field = "text";  ///< of JSON lines; dots descend ("meta.text")
  /// Longer documents come in pieces, cut after the last line end, else after the last white space, else between
  /// characters: SentencePiece needs about 90 bytes of memory for each byte of a piece.
  uint64_t max_document_bytes = uint64_t{4} << 20;
};

/// The documents of one file. Not safe for several threads.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  /// False at the end. Empty documents are skipped. Throws IoError naming file and line: text that is not UTF-8, broken
  /// JSON, a missing field, damaged or truncated compressed data.
  virtual bool next(Document& document) = 0;
  /// Bytes of the file consumed so far, for progress.
  virtual uint64_t consumed() const = 0;
  /// Empty documents skipped so far.
  virtual uint64_t empty_documents() const = 0;
};

/// JSON lines if the name ends in .jsonl, .ndjson or .json, otherwise text; then .gz or .zst or nothing. A byte-order
/// mark at the start is not text. Throws IoError if the file cannot be opened.
std::unique_ptr<DocumentReader> open_documents(const std::filesystem::path& path, const ReaderOptions& options);

/// The files to read: a file as it is named, a folder as all files below it that end in .txt, .text, .jsonl, .ndjson or
/// .json (then .gz or .zst or nothing), sorted by path; hidden ones are left out. Throws IoError if an input is missing
/// or a folder holds no such file. `left_out`, if given, receives the files of other kinds.
std::vector<std::filesystem::path> expand_inputs(const std::vector<std::filesystem::path>& inputs,
                                                 std::vector<std::filesystem::path>* left_out = nullptr);

}  // namespace moeut
