// The only place that knows zlib and zstd.
#include "data/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <cstring>
#include <optional>

#include "core/check.h"
#include "data/input_errors.h"
#include "data/raw_input.h"

namespace moeut {
namespace {

constexpr int kMaxZstdWindowLog = 27;
constexpr std::string_view kGzipMagic = "\x1F\x8B", kZstdMagic = "\x28\xB5\x2F\xFD";

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(std::unique_ptr<RawInput> input) : input_(std::move(input)) {}

  size_t read(char* out, size_t capacity) override {
    if (!input_->fill()) return 0;
    const size_t bytes = std::min(capacity, input_->available().size());
    std::memcpy(out, input_->available().data(), bytes);
    input_->advance(bytes);
    return bytes;
  }
  uint64_t consumed() const override { return input_->consumed(); }

 private:
  std::unique_ptr<RawInput> input_;
};

struct Output {
  char* data;
  size_t capacity, size = 0;
};

/// What decompressing sources share: bytes that came out before a damage are given before it is reported.
class Decompressor : public ByteSource {
 public:
  explicit Decompressor(std::unique_ptr<RawInput> input) : input_(std::move(input)) {}

  size_t read(char* out, size_t capacity) final {
    Output output{out, capacity};
    try {
      if (!damage_) decompress(output);
    } catch (const DamagedInput& damage) {
      damage_ = damage.what();
    }
    if (damage_ && output.size == 0) throw DamagedInput(*damage_);
    return output.size;
  }
  uint64_t consumed() const override { return input_->consumed(); }

 protected:
  /// Adds at least one byte to `output`, unless all was read.
  virtual void decompress(Output& output) = 0;

  [[noreturn]] void throw_truncated() const {
    throw DamagedInput(fmt::format(
        "{} ends in the middle of its compressed data: it is truncated; copy or download it again", input_->name()));
  }
  [[noreturn]] void throw_damaged(const char* why) const {
    throw DamagedInput(
        fmt::format("{}: its compressed data is damaged ({}); copy or download it again", input_->name(), why));
  }

  std::unique_ptr<RawInput> input_;

 private:
  std::optional<std::string> damage_;
};

class GzipSource final : public Decompressor {
 public:
  explicit GzipSource(std::unique_ptr<RawInput> input) : Decompressor(std::move(input)) {
    require<IoError>(inflateInit2(&stream_, 15 + 16) == Z_OK, "zlib cannot be initialised");
  }
  GzipSource(GzipSource&&) = delete;
  ~GzipSource() override { inflateEnd(&stream_); }

 private:
  void decompress(Output& output) override {
    while (output.size == 0) {
      if (!input_->fill()) {
        if (inside_ || !any_) throw_truncated();
        return;
      }
      step(output);
    }
  }

  void step(Output& output) {
    any_ = inside_ = true;
    const std::string_view compressed = input_->available();
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(compressed.data()));
    stream_.avail_in = static_cast<uInt>(compressed.size());
    stream_.next_out = reinterpret_cast<Bytef*>(output.data);
    stream_.avail_out = static_cast<uInt>(output.capacity);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    input_->advance(compressed.size() - stream_.avail_in);
    output.size = output.capacity - stream_.avail_out;
    if (result == Z_STREAM_END) {
      inside_ = false;
      inflateReset(&stream_);  // another member may follow
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      throw_damaged(stream_.msg != nullptr ? stream_.msg : "zlib");
    }
  }

  z_stream stream_{};
  bool inside_ = false, any_ = false;
};

class ZstdSource final : public Decompressor {
 public:
  explicit ZstdSource(std::unique_ptr<RawInput> input)
      : Decompressor(std::move(input)), stream_(ZSTD_createDStream(), ZSTD_freeDStream) {
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, kMaxZstdWindowLog);
  }

 private:
  void decompress(Output& output) override {
    ZSTD_outBuffer to{output.data, output.capacity, 0};
    while (to.pos == 0) {
      const bool more = input_->fill();
      if (!more && (!inside_ || drained_)) {
        if (inside_ || !any_) throw_truncated();
        return;
      }
      ZSTD_inBuffer from{input_->available().data(), input_->available().size(), 0};
      const size_t result = ZSTD_decompressStream(stream_.get(), &to, &from);
      output.size = to.pos;
      if (ZSTD_isError(result)) throw_damaged(ZSTD_getErrorName(result));
      input_->advance(from.pos);
      any_ = true;
      inside_ = result != 0;
      drained_ = !more && to.pos == 0;  // no input left and nothing came out: the frame's end is missing
    }
  }

  std::unique_ptr<ZSTD_DStream, decltype(&ZSTD_freeDStream)> stream_;
  bool inside_ = false, any_ = false, drained_ = false;
};

bool begins_with(RawInput& input, std::string_view magic) {
  return input.fill(magic.size()) && input.available().starts_with(magic);
}

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::filesystem::path& path) {
  auto input = std::make_unique<RawInput>(path);
  const auto ending = path.extension();
  if (ending == ".gz" || (ending != ".zst" && begins_with(*input, kGzipMagic)))
    return std::make_unique<GzipSource>(std::move(input));
  if (ending == ".zst" || begins_with(*input, kZstdMagic)) return std::make_unique<ZstdSource>(std::move(input));
  return std::make_unique<PlainSource>(std::move(input));
}

}  // namespace moeut
