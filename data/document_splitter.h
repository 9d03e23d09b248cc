// Which bytes of an input belong to which document. What the bytes are is the reader's matter (data/documents.h).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "data/documents.h"

namespace moeut {

/// Bytes of a document that follow those given before. No character is cut, unless the input itself ends in one.
struct DocumentPart {
  std::string_view bytes;  ///< valid until the next call; may be empty
  bool ends = false;       ///< the document
};

class DocumentSplitter {
 public:
  virtual ~DocumentSplitter() = default;
  /// The next part of a document, or the first of the next document; false at the end of the input, where no document
  /// is left open. Throws BadRecord for a document that is none (the next call goes on behind it), DamagedInput if
  /// nothing further can be read.
  virtual bool next(DocumentPart& part) = 0;
  /// "NAME:LINE" of the last part, for messages.
  virtual std::string place() const = 0;
  /// Bytes of the input consumed so far.
  virtual uint64_t consumed() const = 0;
};

std::unique_ptr<DocumentSplitter> open_splitter(const std::filesystem::path& path, const ReaderOptions& options);

}  // namespace moeut
