// Connections by TCP between the processes of a run: bytes that arrive or an error that says what to check.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moeut {

/// Until when to try.
class Deadline {
 public:
  explicit Deadline(double seconds);
  static Deadline never() { return Deadline(); }
  /// This one, or in so many seconds if that is sooner.
  Deadline within(double seconds) const;

  bool over() const { return time_ && Clock::now() >= *time_; }
  /// Seconds that are left, at least 0.
  double left() const;
  /// For poll(): milliseconds that are left, rounded up; -1 for never.
  int poll_time() const;

 private:
  using Clock = std::chrono::steady_clock;
  Deadline() = default;

  std::optional<Clock::time_point> time_;
};

/// Where somebody listens.
struct Address {
  std::string host;  ///< a name or a number of IPv4 or IPv6
  int port = 0;
  /// "gpu7:29500", "[::1]:29500".
  std::string text() const;
};

/// A connection; closed with this object, also by exec. The other side's death or absence is an IoError here, never a
/// signal. A host that vanishes shows within about two minutes.
class Socket {
 public:
  Socket() = default;
  /// Takes over a connected descriptor. `peer`: for messages.
  Socket(int fd, std::string peer);
  Socket(Socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)), peer_(std::move(other.peer_)) {}
  Socket& operator=(Socket&& other) noexcept;
  ~Socket() { close(); }

  /// Tries until it succeeds: the other side may start later. Throws IoError with the last reason after the deadline.
  static Socket connect(const Address& to, Deadline deadline);
  /// Tries once each of the addresses that the name stands for.
  static Socket connect_once(const Address& to, Deadline deadline);

  bool is_open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  const std::string& peer() const { return peer_; }

  /// Throw IoError if the other side closes first or the deadline passes.
  void send_all(const void* data, size_t bytes, Deadline deadline = Deadline::never());
  void receive_all(void* data, size_t bytes, Deadline deadline = Deadline::never());
  /// As many bytes as go without waiting, perhaps 0. Nothing: the connection has ended.
  std::optional<size_t> send_some(const void* data, size_t bytes) noexcept;
  std::optional<size_t> receive_some(void* data, size_t bytes) noexcept;
  /// The other side has closed, or died, and all that it sent has been received.
  bool has_ended() const noexcept;
  /// The other side sees the end; what it still sends can be received.
  void end_sending() noexcept;
  void close() noexcept;

 private:
  void wait_for(short events, Deadline deadline, const char* what) const;
  [[noreturn]] void fail(const char* what, const std::string& reason) const;

  int fd_ = -1;
  std::string peer_;
};

/// Listens on all interfaces, IPv6 and IPv4.
class Listener {
 public:
  /// Port 0: any that is free. Throws IoError if the port is taken.
  explicit Listener(int port = 0);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  int port() const { return port_; }
  /// The next connection; nothing if the deadline passes without one.
  std::optional<Socket> accept(Deadline deadline);

 private:
  int fd_ = -1;
  int port_ = 0;
};

/// What this host calls itself.
std::string host_name();
/// The addresses of this host's interfaces that are up, as numbers; those of the loopback last.
std::vector<std::string> host_addresses();
bool is_loopback(const std::string& address);

}  // namespace moeut
