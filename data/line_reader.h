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

  /// The next line with its "\n", or a part of at least 64 KiB of a longer one (then without "\n"), or the last line of
  /// the file, which may lack it. False at the end. The view is valid until the next call. A byte-order mark at the
  /// start of the file is dropped.
  bool next(std::string_view& piece);

  /// 1-based number of the line that the last piece belongs to.
  uint64_t line() const { return line_; }
  const std::string& path() const { return path_; }
  uint64_t consumed() const { return source_->consumed(); }

 private:
  bool refill();

  std::string path_;
  std::unique_ptr<ByteSource> source_;
  std::string buffer_;
  size_t position_ = 0;
  uint64_t line_ = 1, next_line_ = 1;
  bool ended_ = false, first_ = true;
};

}  // namespace moeut
