#include "trainer/watchdog_link.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>

#include "core/check.h"

namespace moeut {
namespace {

/// The ranks of a run are one program on machines of one kind: numbers as they lie in memory.
struct Header {
  WatchdogLink::Kind kind{};
  uint32_t bytes = 0;
};

constexpr uint32_t kMostBytes = 1 << 20;

}  // namespace

Heartbeat Heartbeat::of(const RankState& state, int lowest_other) {
  Heartbeat heartbeat{.age = state.age, .waiting = state.waiting ? 1 : 0, .lowest_other = lowest_other};
  state.where.copy(heartbeat.where, sizeof heartbeat.where - 1);
  return heartbeat;
}

RankState Heartbeat::state() const {
  return {.where = std::string(where, ::strnlen(where, sizeof where)), .waiting = waiting != 0, .age = age};
}

void WatchdogLink::post(Kind kind, std::string_view content) {
  content = content.substr(0, kMostBytes);
  const Header header{kind, static_cast<uint32_t>(content.size())};
  outgoing_.append(reinterpret_cast<const char*>(&header), sizeof header);
  outgoing_.append(content);
}

void WatchdogLink::send() noexcept {
  while (!outgoing_.empty()) {
    const auto sent = socket_.send_some(outgoing_.data(), outgoing_.size());
    if (!sent) return outgoing_.clear();  // receive() will tell
    if (*sent == 0) return;
    outgoing_.erase(0, *sent);
  }
}

bool WatchdogLink::receive(const Handler& handler) {
  std::array<char, 4096> buffer;
  while (true) {
    const auto got = socket_.receive_some(buffer.data(), buffer.size());
    if (!got) return false;
    incoming_.append(buffer.data(), *got);
    if (!take_messages(handler)) return false;
    if (*got < buffer.size()) return true;
  }
}

bool WatchdogLink::take_messages(const Handler& handler) {
  Header header;
  while (incoming_.size() >= sizeof header) {
    std::memcpy(&header, incoming_.data(), sizeof header);
    if (header.bytes > kMostBytes) return false;
    if (incoming_.size() < sizeof header + header.bytes) return true;
    const std::string content = incoming_.substr(sizeof header, header.bytes);
    incoming_.erase(0, sizeof header + header.bytes);
    handler(header.kind, content);
  }
  return true;
}

std::string pack(const Heartbeat& heartbeat) {
  return std::string(reinterpret_cast<const char*>(&heartbeat), sizeof heartbeat);
}

Heartbeat unpack_heartbeat(const std::string& content) {
  Heartbeat heartbeat;
  require<IoError>(content.size() == sizeof heartbeat, "a heartbeat of {} bytes", content.size());
  std::memcpy(&heartbeat, content.data(), sizeof heartbeat);
  return heartbeat;
}

std::string pack(const Verdict& verdict) {
  return fmt::format("{} {} {}", verdict.rank, verdict.is_gone ? 1 : 0, verdict.message);
}

Verdict unpack_verdict(const std::string& content) {
  Verdict verdict;
  int is_gone = 0, length = 0;
  const bool fits = std::sscanf(content.c_str(), "%d %d%n", &verdict.rank, &is_gone, &length) == 2;
  require<IoError>(fits && content.size() > static_cast<size_t>(length), "a verdict of {} bytes", content.size());
  verdict.is_gone = is_gone != 0;
  verdict.message = content.substr(static_cast<size_t>(length) + 1);
  return verdict;
}

}  // namespace moeut
