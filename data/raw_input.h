// Bytes of an input as they are, through a buffer.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace moeut {

/// A regular file, or standard input for "-". Throws IoError naming it.
class RawInput {
 public:
  explicit RawInput(const std::filesystem::path& path);
  RawInput(RawInput&&) = delete;
  ~RawInput();

  /// Makes at least `bytes` available (at most kBufferBytes); false if the input ends before.
  bool fill(size_t bytes = 1);
  std::string_view available() const { return {buffer_.data() + position_, size_ - position_}; }
  void advance(size_t bytes) { position_ += bytes; }

  /// Bytes read from the input so far.
  uint64_t consumed() const { return consumed_; }
  /// For messages: the path in quotes, or "standard input".
  const std::string& name() const { return name_; }

  static constexpr size_t kBufferBytes = 256 << 10;

 private:
  size_t read(char* out, size_t capacity);

  bool standard_input_;
  std::string name_;
  int fd_ = -1;
  uint64_t consumed_ = 0;
  std::vector<char> buffer_;
  size_t position_ = 0, size_ = 0;
};

}  // namespace moeut
