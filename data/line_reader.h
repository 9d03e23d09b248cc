// Lines of a byte stream, each with its end, in pieces of bounded size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "data/byte_source.h"

namespace moeut {

class LineReader {
 public:
  explicit LineReader(const std::filesystem::path& path);

  /// The next line with its "\n", or a part of about 64 KiB or more of a longer one (then without "\n"; it cuts neither
  /// a character nor "\r\n"), or the last line of the file, which may lack its end. False at the end. The view is valid
  /// until the next call. A byte-order mark at the start of the file is dropped. Throws what ByteSource::read does,
  /// once all whole lines before that place are handed out.
  bool next(std::string_view& piece);

  /// 1-based number of the line that the last piece belongs to.
  uint64_t line() const { return line_; }
  /// "NAME:LINE" of the last piece, for messages.
  std::string place() const { return name_ + ":" + std::to_string(line_); }
  uint64_t consumed() const { return source_->consumed(); }

 private:
  bool refill();

  std::string name_;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  size_t position_ = 0;
  uint64_t line_ = 1, next_line_ = 1;
  bool ended_ = false, first_ = true;
};

}  // namespace moeut
