#include "data/spool.h"

#include "core/check.h"

namespace moeut {
namespace {

constexpr size_t kBufferBytes = 256 << 10;

}  // namespace

Spool::Spool(const std::filesystem::path& path, FileSystem& fs) : path_(path), fs_(&fs), file_(fs.create(path)) {}

Spool::Spool(const std::filesystem::path& path, uint64_t bytes, FileSystem& fs) : path_(path), fs_(&fs), bytes_(bytes) {
  const uint64_t there = std::filesystem::exists(path) ? std::filesystem::file_size(path) : 0;
  require<IoError>(there >= bytes, "'{}' has {} bytes and should have {}", path.string(), there, bytes);
  fs.truncate(path, bytes);
  file_ = fs.append(path);
}

void Spool::append(const void* data, size_t bytes) {
  const auto* begin = static_cast<const std::byte*>(data);
  buffer_.insert(buffer_.end(), begin, begin + bytes);
  bytes_ += bytes;
  synced_ = false;
  if (buffer_.size() >= kBufferBytes) flush();
}

void Spool::cut(uint64_t bytes) {
  flush();
  file_->close();
  fs_->truncate(path_, bytes);
  file_ = fs_->append(path_);
  bytes_ = bytes;
}

void Spool::flush() {
  if (!buffer_.empty()) file_->write(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void Spool::sync() {
  if (synced_) return;
  flush();
  file_->sync();
  synced_ = true;
}

void Spool::close() {
  flush();
  file_->close();
  file_.reset();
}

}  // namespace moeut
