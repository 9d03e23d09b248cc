// What watchdogs say to each other, over one connection, without ever waiting.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "trainer/socket.h"
#include "trainer/watchdog_judge.h"

namespace moeut {

/// A rank's state once a second.
struct Heartbeat {
  char where[112] = {};
  double age = 0;
  int32_t waiting = 0;
  int32_t lowest_other = 0;  ///< of rank 0: see WatchdogJudge

  static Heartbeat of(const RankState& state, int lowest_other);
  RankState state() const;
};

class WatchdogLink {
 public:
  enum class Kind : uint32_t { heartbeat, failure, verdict, goodbye };
  using Handler = std::function<void(Kind kind, const std::string& content)>;

  explicit WatchdogLink(Socket socket) : socket_(std::move(socket)) {}

  int fd() const { return socket_.fd(); }
  /// Queues a message; send() sends what goes.
  void post(Kind kind, std::string_view content);
  void send() noexcept;
  bool has_unsent() const { return !outgoing_.empty(); }
  /// All complete messages that have arrived. False: the connection has ended, or what came is no message.
  bool receive(const Handler& handler);
  void end_sending() noexcept { socket_.end_sending(); }

 private:
  bool take_messages(const Handler& handler);

  Socket socket_;
  std::string incoming_, outgoing_;
};

std::string pack(const Heartbeat& heartbeat);
std::string pack(const Verdict& verdict);
/// Throw IoError if `content` is something else.
Heartbeat unpack_heartbeat(const std::string& content);
Verdict unpack_verdict(const std::string& content);

}  // namespace moeut
