#include "data/line_reader.h"

namespace moeut {
namespace {
constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kLongLine = 64 << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
}  // namespace

LineReader::LineReader(const std::filesystem::path& path) : path_(path.string()), source_(open_bytes(path)) {}

/// Drops what was handed out and reads more; false if the source is at its end.
bool LineReader::refill() {
  buffer_.erase(0, position_);
  position_ = 0;
  const size_t old = buffer_.size();
  buffer_.resize(old + kReadBytes);
  const size_t got = source_->read(buffer_.data() + old, kReadBytes);
  buffer_.resize(old + got);
  ended_ = got == 0;
  return !ended_;
}

bool LineReader::next(std::string_view& piece) {
  if (first_) {
    while (buffer_.size() < kByteOrderMark.size() && refill()) {
    }
    if (std::string_view(buffer_).starts_with(kByteOrderMark)) position_ = kByteOrderMark.size();
    first_ = false;
  }
  line_ = next_line_;
  while (true) {
    const size_t end = buffer_.find('\n', position_);
    const size_t available = buffer_.size() - position_;
    if (end == std::string::npos && available < kLongLine && !ended_) {
      refill();
      continue;
    }
    if (available == 0) return false;
    const size_t length = end == std::string::npos ? available : end + 1 - position_;
    piece = std::string_view(buffer_).substr(position_, length);
    position_ += length;
    if (end != std::string::npos) ++next_line_;
    return true;
  }
}

}  // namespace moeut
