#include "trainer/socket.h"

#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <memory>
#include <system_error>
#include <thread>

#include "core/check.h"

namespace moeut {
namespace {

constexpr double kPause = 0.1;  ///< seconds between two tries

std::string reason_of(int error) {
  return std::generic_category().message(error);
}

void set_option(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof value);  // each is a refinement: without it things still work
}

/// Small messages leave at once; a silent host is asked whether it is there.
void prepare(int fd) {
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 4);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, 120'000);
}

/// poll() of one descriptor, through interruptions. False if the deadline passes first.
bool poll_one(int fd, short events, Deadline deadline) {
  while (true) {
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    if (::poll(&entry, 1, deadline.poll_time()) > 0) return true;
    if (deadline.over()) return false;
  }
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Resolved = std::unique_ptr<addrinfo, FreeAddresses>;

/// Throws IoError if the name is unknown.
Resolved resolve(const Address& address) {
  addrinfo hints = {}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  const int error = ::getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &list);
  require<IoError>(error == 0, "cannot find the host '{}': {}; check its name", address.host, ::gai_strerror(error));
  return Resolved(list);
}

/// A connection to a free port of one's own host can meet itself: both ends are the same.
bool meets_itself(int fd) {
  sockaddr_storage own = {}, other = {};
  socklen_t own_length = sizeof own, other_length = sizeof other;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_length) == 0 &&
         ::getpeername(fd, reinterpret_cast<sockaddr*>(&other), &other_length) == 0 && own_length == other_length &&
         std::memcmp(&own, &other, own_length) == 0;
}

/// 0 once `fd` is connected, or the reason why not.
int finish_connection(int fd, const addrinfo& to, Deadline deadline) {
  if (::connect(fd, to.ai_addr, to.ai_addrlen) != 0) {
    if (errno != EINPROGRESS && errno != EINTR) return errno;
    if (!poll_one(fd, POLLOUT, deadline)) return ETIMEDOUT;
  }
  int error = 0;
  socklen_t length = sizeof error;
  if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
  return error == 0 && meets_itself(fd) ? ECONNREFUSED : error;
}

/// "192.0.2.7:4711", as a number: names would have to be asked for.
std::string text_of(const sockaddr_storage& address, socklen_t length) {
  char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "0";
  ::getnameinfo(reinterpret_cast<const sockaddr*>(&address), length, host, sizeof host, port, sizeof port,
                NI_NUMERICHOST | NI_NUMERICSERV);
  const std::string_view mapped = "::ffff:";  // IPv4 at a socket of IPv6
  const std::string_view shown = host;
  return Address{std::string(shown.starts_with(mapped) ? shown.substr(mapped.size()) : shown), std::atoi(port)}.text();
}

int port_of(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof address;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<const sockaddr_in&>(address).sin_port);
}

bool bind_all_interfaces(int fd, int family, int port) {
  if (family == AF_INET6) {
    set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    sockaddr_in6 any = {};
    any.sin6_family = AF_INET6;
    any.sin6_port = htons(static_cast<uint16_t>(port));
    return ::bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0;
  }
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  any.sin_port = htons(static_cast<uint16_t>(port));
  return ::bind(fd, reinterpret_cast<const sockaddr*>(&any), sizeof any) == 0;
}

/// The descriptor, or -1 with the reason in errno.
int listen_on(int family, int port) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);  // a port whose last user has ended is free
  if (bind_all_interfaces(fd, family, port) && ::listen(fd, SOMAXCONN) == 0) return fd;
  const int error = errno;
  ::close(fd);
  errno = error;
  return -1;
}

/// Errors of accept() that concern one connection that has come to nothing: the next one may do better.
bool is_passing(int error) {
  for (const int each : {EAGAIN, EINTR, ECONNABORTED, EPROTO, ENETDOWN, EHOSTDOWN, EHOSTUNREACH, ENETUNREACH})
    if (error == each) return true;
  return false;
}

}  // namespace

Deadline::Deadline(double seconds) {
  constexpr double kMost = 1e9;  // what is longer is not to be counted in nanoseconds
  time_ = Clock::now() + std::chrono::nanoseconds(static_cast<int64_t>(std::clamp(seconds, 0.0, kMost) * 1e9));
}

Deadline Deadline::within(double seconds) const {
  const Deadline other(seconds);
  return time_ && *time_ < *other.time_ ? *this : other;
}

double Deadline::left() const {
  if (!time_) return INFINITY;
  return std::max(0.0, std::chrono::duration<double>(*time_ - Clock::now()).count());
}

int Deadline::poll_time() const {
  return time_ ? static_cast<int>(std::min(std::ceil(left() * 1e3), 1e6)) : -1;
}

std::string Address::text() const {
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_ipv6 ? "[" : "", host, is_ipv6 ? "]" : "", port);
}

Socket::Socket(int fd, std::string peer) : fd_(fd), peer_(std::move(peer)) {
  prepare(fd);
}

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    peer_ = std::move(other.peer_);
  }
  return *this;
}

Socket Socket::connect_once(const Address& to, Deadline deadline) {
  const Resolved list = resolve(to);
  int error = EHOSTUNREACH;
  for (const addrinfo* each = list.get(); each != nullptr; each = each->ai_next) {
    const int fd = ::socket(each->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    error = fd < 0 ? errno : finish_connection(fd, *each, deadline);
    if (error == 0) return Socket(fd, to.text());
    if (fd >= 0) ::close(fd);
  }
  throw IoError(fmt::format("cannot connect to {}: {}", to.text(), reason_of(error)));
}

Socket Socket::connect(const Address& to, Deadline deadline) {
  while (true) {
    try {
      return connect_once(to, deadline);
    } catch (const IoError& error) {
      require<IoError>(!deadline.over(),
                       "{}; check that a process listens there, the host name, the port and the firewall",
                       error.what());
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(kPause, deadline.left())));
  }
}

void Socket::fail(const char* what, const std::string& reason) const {
  throw IoError(fmt::format("cannot {} {}: {}", what, peer_, reason));
}

void Socket::wait_for(short events, Deadline deadline, const char* what) const {
  if (!poll_one(fd_, events, deadline)) fail(what, "it does not answer; check that its process runs and the network");
}

void Socket::send_all(const void* data, size_t bytes, Deadline deadline) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto sent = send_some(next, bytes);
    if (!sent) fail("send to", "it has closed the connection; its own message, if it left one, says why");
    next += *sent;
    bytes -= *sent;
    if (*sent == 0) wait_for(POLLOUT, deadline, "send to");
  }
}

void Socket::receive_all(void* data, size_t bytes, Deadline deadline) {
  auto* next = static_cast<char*>(data);
  while (bytes > 0) {
    const auto got = receive_some(next, bytes);
    if (!got) fail("receive from", "it has closed the connection; its own message, if it left one, says why");
    next += *got;
    bytes -= *got;
    if (*got == 0) wait_for(POLLIN, deadline, "receive from");
  }
}

std::optional<size_t> Socket::send_some(const void* data, size_t bytes) noexcept {
  const ssize_t sent = ::send(fd_, data, bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) return static_cast<size_t>(sent);
  if (errno == EAGAIN || errno == EINTR) return 0;
  return std::nullopt;
}

std::optional<size_t> Socket::receive_some(void* data, size_t bytes) noexcept {
  if (bytes == 0) return 0;
  const ssize_t got = ::recv(fd_, data, bytes, MSG_DONTWAIT);
  if (got > 0) return static_cast<size_t>(got);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  return std::nullopt;
}

bool Socket::has_ended() const noexcept {
  char byte = 0;
  const ssize_t got = ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

void Socket::end_sending() noexcept {
  ::shutdown(fd_, SHUT_WR);
}

void Socket::close() noexcept {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

Listener::Listener(int port) {
  fd_ = listen_on(AF_INET6, port);
  if (fd_ < 0 && errno != EADDRINUSE) fd_ = listen_on(AF_INET, port);  // a host without IPv6
  require<IoError>(fd_ >= 0, "cannot listen on port {}: {}; choose another port, or end the process that has this one",
                   port, reason_of(errno));
  port_ = port_of(fd_);
}

Listener::~Listener() {
  ::close(fd_);
}

std::optional<Socket> Listener::accept(Deadline deadline) {
  do {
    sockaddr_storage from = {};
    socklen_t length = sizeof from;
    const int fd = ::accept4(fd_, reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) return Socket(fd, text_of(from, length));
    require<IoError>(is_passing(errno), "cannot accept a connection on port {}: {}", port_, reason_of(errno));
  } while (poll_one(fd_, POLLIN, deadline));
  return std::nullopt;
}

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name[0] == '\0' ? "localhost" : name;
}

bool is_loopback(const std::string& address) {
  return address.starts_with("127.") || address == "::1";
}

std::vector<std::string> host_addresses() {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return {"127.0.0.1"};
  const std::unique_ptr<ifaddrs, void (*)(ifaddrs*)> owner(list, ::freeifaddrs);
  std::vector<std::string> addresses;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    const int family = each->ifa_addr == nullptr || (each->ifa_flags & IFF_UP) == 0 ? 0 : each->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    char host[NI_MAXHOST];
    const auto length = static_cast<socklen_t>(family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    if (::getnameinfo(each->ifa_addr, length, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0) continue;
    // An address with % is valid on one link alone, and its name for that link is this host's.
    if (std::strchr(host, '%') == nullptr) addresses.emplace_back(host);
  }
  std::stable_partition(addresses.begin(), addresses.end(), [](const auto& a) { return !is_loopback(a); });
  return addresses;
}

}  // namespace moeut
