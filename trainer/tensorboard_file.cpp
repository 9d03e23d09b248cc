#include "trainer/tensorboard_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

namespace moeut {
namespace {

static_assert(std::endian::native == std::endian::little);

// Field numbers of event.proto and summary.proto.
enum EventField { kWallTime = 1, kStep = 2, kFileVersion = 3, kSummary = 5, kSessionLog = 7 };
enum SummaryField { kValue = 1 };
enum ValueField { kTag = 1, kSimpleValue = 2 };
enum SessionLogField { kStatus = 1 };
constexpr uint64_t kSessionStart = 1;

/// A protobuf message in the making.   [protobuf.dev/programming-guides/encoding]
class Message {
 public:
  void add(int field, std::string_view bytes) {
    tag(field, 2);
    varint(bytes.size());
    bytes_ += bytes;
  }
  void add_varint(int field, uint64_t value) {
    tag(field, 0);
    varint(value);
  }
  void add_float(int field, float value) { fixed(field, 5, value); }
  void add_double(int field, double value) { fixed(field, 1, value); }
  const std::string& bytes() const { return bytes_; }

 private:
  void tag(int field, int wire_type) { varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire_type)); }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
  }
  template <class T>
  void fixed(int field, int wire_type, T value) {
    tag(field, wire_type);
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }

  std::string bytes_;
};

Message event(double wall_time, int64_t step) {
  Message message;
  message.add_double(kWallTime, wall_time);
  if (step != 0) message.add_varint(kStep, static_cast<uint64_t>(step));  // proto3: a zero is left out
  return message;
}

std::string framed(const std::string& bytes) {
  const uint64_t length = bytes.size();
  std::string record(reinterpret_cast<const char*>(&length), sizeof length);
  const auto add_crc = [&](std::string_view of) {
    const uint32_t crc = masked_crc32c(of);
    record.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  };
  add_crc(std::string(record));
  record += bytes;
  add_crc(bytes);
  return record;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// TensorBoard reads the files of a folder in the order of their names.
std::filesystem::path new_name(const std::filesystem::path& folder) {
  std::array<char, 256> host{};
  if (::gethostname(host.data(), host.size() - 1) != 0) std::strcpy(host.data(), "unknown");
  return folder / fmt::format("events.out.tfevents.{:017.6f}.{}.{}", now(), host.data(), ::getpid());
}

std::string first_records(double wall_time, int64_t step) {
  Message version = event(wall_time, 0);
  version.add(kFileVersion, "brain.Event:2");
  Message log;
  log.add_varint(kStatus, kSessionStart);
  Message start = event(wall_time, step + 1);  // the first step whose earlier events are void
  start.add(kSessionLog, log.bytes());
  return framed(version.bytes()) + framed(start.bytes());
}

}  // namespace

uint32_t masked_crc32c(std::string_view bytes) {
  static const auto table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (t[i] & 1 ? 0x82F63B78u : 0);
    }
    return t;
  }();
  uint32_t crc = ~0u;
  for (const char byte : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xFF];
  return std::rotr(~crc, 15) + 0xA282EAD8u;
}

TensorboardFile::TensorboardFile(const std::filesystem::path& folder, int64_t step, FileSystem& fs) {
  fs.make_directories(folder);
  file_ = fs.create(new_name(folder));
  const std::string records = first_records(now(), step);
  file_->write(records.data(), records.size());
}

std::string TensorboardFile::record(double wall_time, int64_t step, const TensorboardScalars& scalars) {
  Message summary;
  for (const auto& [name, number] : scalars) {
    Message value;
    value.add(kTag, name);
    value.add_float(kSimpleValue, static_cast<float>(number));
    summary.add(kValue, value.bytes());
  }
  Message message = event(wall_time, step);
  message.add(kSummary, summary.bytes());
  return framed(message.bytes());
}

void TensorboardFile::write(int64_t step, const TensorboardScalars& scalars) {
  const std::string bytes = record(now(), step, scalars);
  file_->write(bytes.data(), bytes.size());
}

void TensorboardFile::write(const TrainingRow& row) {
  write(row.step, {{"train/loss", row.loss},
                   {"train/reg_loss", row.reg_loss},
                   {"train/grad_norm", row.grad_norm},
                   {"train/lr", row.lr},
                   {"train/tokens", static_cast<double>(row.tokens)},
                   {"speed/tokens_per_s", row.tokens_per_s},
                   {"speed/step_ms", row.step_ms}});
}

void TensorboardFile::write(const ValidationRow& row) {
  TensorboardScalars scalars{{"validation/loss", row.val_loss}, {"validation/perplexity", row.val_perplexity}};
  if (row.val_loss_ema) scalars.emplace_back("validation/loss_ema", *row.val_loss_ema);
  write(row.step, scalars);
}

}  // namespace moeut
