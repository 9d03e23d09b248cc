#include "data/line_reader.h"

#include "data/input_files.h"
#include "data/utf8.h"

namespace moeut {
namespace {

constexpr size_t kReadBytes = 256 << 10;
constexpr size_t kLongLine = 64 << 10;
constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

/// Where a part of a longer line ends: it leaves the last character behind, which may be incomplete, and "\r", which
/// may belong to the line's end.
size_t end_of_part(std::string_view line) {
  const size_t end = character_boundary(line, line.size() - 1);
  return line[end - 1] == '\r' ? end - 1 : end;
}

}  // namespace

LineReader::LineReader(const std::filesystem::path& path)
    : name_(is_standard_input(path) ? input_name(path) : path.string()), source_(open_bytes(path)) {}

/// Drops what was handed out and reads more; false if the source is at its end.
bool LineReader::refill() {
  buffer_.erase(0, position_);
  position_ = 0;
  const size_t old = buffer_.size();
  buffer_.resize(old + kReadBytes);
  size_t got = 0;
  try {
    got = source_->read(buffer_.data() + old, kReadBytes);
  } catch (...) {
    buffer_.resize(old);
    throw;
  }
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
    const std::string_view rest = std::string_view(buffer_).substr(position_);
    const size_t end = rest.find('\n');
    if (end == std::string_view::npos && rest.size() < kLongLine && !ended_) {
      refill();
      continue;
    }
    if (rest.empty()) return false;
    piece = rest.substr(0, end != std::string_view::npos ? end + 1 : ended_ ? rest.size() : end_of_part(rest));
    position_ += piece.size();
    if (end != std::string_view::npos) ++next_line_;
    return true;
  }
}

}  // namespace moeut
