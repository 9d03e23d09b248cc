// Documents out of text inputs, one after another, in bounded memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "data/input_files.h"

namespace moeut {

/// What is one document of a text input.
enum class DocumentUnit {
  kFile,   ///< the whole file, byte for byte
  kLine,   ///< a line, without its end (\n or \r\n)
  kBlock,  ///< lines up to a blank one (nothing but spaces and tabs), without the last line's end
};

/// What happens to a document of more than max_document_bytes.
enum class OnLongDocument {
  kSplit,  ///< it comes in pieces, cut after the last line end, else after the last white space, else between
           ///< characters
  kError,  ///< IoError
  kSkip    ///< it is left out and counted
};

/// What happens to text that is not UTF-8, broken JSON, a missing field, and to what stands behind damage in compressed
/// data.
enum class OnBadRecord {
  kError,  ///< BadRecord or DamagedInput
  kSkip    ///< the document is left out and counted; behind damage, the rest of the input
};

/// A document, or a piece of one that is longer than ReaderOptions::max_document_bytes. Valid UTF-8, never empty unless
/// retracted.
struct Document {
  std::string text;
  bool continues = false;  ///< the next Document is the rest of this one, or retracts it
  bool retracted = false;  ///< the document whose pieces came before is bad further on: it counts as left out
};

struct ReaderOptions {
  DocumentUnit unit = DocumentUnit::kFile;
  std::string text_field = "text";  ///< of JSON lines; dots descend ("meta.text")
  /// SentencePiece needs about 90 bytes of memory for each byte of a text.
  uint64_t max_document_bytes = uint64_t{4} << 20;
  InputFormat format = InputFormat::kByName;
  OnLongDocument on_long_document = OnLongDocument::kSplit;
  OnBadRecord on_bad_record = OnBadRecord::kError;
};

/// What an input has that was not given.
struct ReaderCounts {
  uint64_t empty_documents = 0;
  uint64_t bad_records = 0;     ///< documents that are not UTF-8 or not JSON with the text's field
  uint64_t long_documents = 0;  ///< left out for their length
  uint64_t damaged_inputs = 0;  ///< of which the rest was left out

  uint64_t left_out() const { return bad_records + long_documents + damaged_inputs; }
  ReaderCounts& operator+=(const ReaderCounts& other);
};

/// The documents of one input. Not safe for several threads.
class DocumentReader {
 public:
  virtual ~DocumentReader() = default;
  /// False at the end. Empty documents are left out. Throws IoError naming the input and, where there is one, the line.
  virtual bool next(Document& document) = 0;
  /// Bytes of the input consumed so far, for progress.
  virtual uint64_t consumed() const = 0;
  virtual const ReaderCounts& counts() const = 0;
};

/// Opens a file, or standard input for "-" (byte_source.h). A byte-order mark at the start is not text. `left_out`, if
/// given, is told of each record that is left out, with the reason; not of empty ones. Throws IoError if the input
/// cannot be opened.
std::unique_ptr<DocumentReader> open_documents(const std::filesystem::path& path, const ReaderOptions& options,
                                               std::function<void(const std::string&)> left_out = nullptr);

}  // namespace moeut
