// The only place that knows zlib and zstd.
#include "data/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "core/check.h"

namespace moeut {
namespace {

constexpr size_t kBufferBytes = 256 << 10;
constexpr int kMaxZstdWindowLog = 27;

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(const std::filesystem::path& path) : path_(path.string()) {
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe without a writer must not block here
    require<IoError>(fd_ >= 0, "cannot read '{}': {}; check the path and its permissions", path_, std::strerror(errno));
    struct stat info = {};
    if (fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
      ::close(fd_);
      throw IoError(fmt::format("cannot read '{}': it is not a regular file", path_));
    }
  }
  PlainSource(PlainSource&&) = delete;
  ~PlainSource() override { ::close(fd_); }

  size_t read(char* out, size_t capacity) override {
    ssize_t n = 0;
    do {
      n = ::read(fd_, out, capacity);
    } while (n < 0 && errno == EINTR);
    require<IoError>(n >= 0, "cannot read '{}': {}", path_, std::strerror(errno));
    consumed_ += static_cast<uint64_t>(n);
    return static_cast<size_t>(n);
  }
  uint64_t consumed() const override { return consumed_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
  uint64_t consumed_ = 0;
};

/// A buffer of compressed bytes over a PlainSource.
class Compressed {
 public:
  explicit Compressed(const std::filesystem::path& path) : file_(path), buffer_(kBufferBytes) {}

  /// Makes at least one byte available; false at the end of the file.
  bool fill() {
    if (position_ < size_) return true;
    position_ = 0;
    size_ = file_.read(buffer_.data(), buffer_.size());
    return size_ > 0;
  }
  const char* data() const { return buffer_.data() + position_; }
  size_t available() const { return size_ - position_; }
  void advance(size_t bytes) { position_ += bytes; }
  uint64_t consumed() const { return file_.consumed(); }

  [[noreturn]] void truncated() const {
    throw IoError(
        fmt::format("'{}' ends in the middle of its compressed data: it is truncated; copy or download it "
                    "again",
                    file_.path()));
  }
  [[noreturn]] void damaged(const char* why) const {
    throw IoError(
        fmt::format("'{}': its compressed data is damaged ({}); copy or download it again", file_.path(), why));
  }

 private:
  PlainSource file_;
  std::vector<char> buffer_;
  size_t position_ = 0, size_ = 0;
};

class GzipSource final : public ByteSource {
 public:
  explicit GzipSource(const std::filesystem::path& path) : input_(path) {
    require<IoError>(inflateInit2(&stream_, 15 + 16) == Z_OK, "zlib cannot be initialised");
  }
  GzipSource(GzipSource&&) = delete;
  ~GzipSource() override { inflateEnd(&stream_); }

  size_t read(char* out, size_t capacity) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(capacity);
    while (stream_.avail_out == capacity) {
      if (!input_.fill()) {
        if (inside_ || !any_) input_.truncated();
        return 0;
      }
      step();
    }
    return capacity - stream_.avail_out;
  }
  uint64_t consumed() const override { return input_.consumed(); }

 private:
  void step() {
    any_ = inside_ = true;
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input_.data()));
    stream_.avail_in = static_cast<uInt>(input_.available());
    const int result = inflate(&stream_, Z_NO_FLUSH);
    input_.advance(input_.available() - stream_.avail_in);
    if (result == Z_STREAM_END) {
      inside_ = false;
      inflateReset(&stream_);  // another member may follow
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      input_.damaged(stream_.msg != nullptr ? stream_.msg : "zlib");
    }
  }

  Compressed input_;
  z_stream stream_{};
  bool inside_ = false, any_ = false;
};

class ZstdSource final : public ByteSource {
 public:
  explicit ZstdSource(const std::filesystem::path& path)
      : input_(path), stream_(ZSTD_createDStream(), ZSTD_freeDStream) {
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }

  size_t read(char* out, size_t capacity) override {
    ZSTD_outBuffer output{out, capacity, 0};
    while (output.pos == 0) {
      const bool more = input_.fill();
      if (!more && (!inside_ || drained_)) {
        if (inside_ || !any_) input_.truncated();
        return 0;
      }
      ZSTD_inBuffer compressed{input_.data(), input_.available(), 0};
      const size_t result = ZSTD_decompressStream(stream_.get(), &output, &compressed);
      if (ZSTD_isError(result)) input_.damaged(ZSTD_getErrorName(result));
      input_.advance(compressed.pos);
      any_ = true;
      inside_ = result != 0;
      drained_ = !more && output.pos == 0;  // no input left and nothing came out: the frame's end is missing
    }
    return output.pos;
  }
  uint64_t consumed() const override { return input_.consumed(); }

 private:
  Compressed input_;
  std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
  bool inside_ = false, any_ = false, drained_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path) {
  if (path.extension() == ".gz") return std::make_unique<GzipSource>(path);
  if (path.extension() == ".zst") return std::make_unique<ZstdSource>(path);
  return std::make_unique<PlainSource>(path);
}

}  // namespace moeut
