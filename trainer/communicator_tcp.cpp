// A communicator without any runtime: a star of TCP connections through rank 0. For small things, such as what NCCL
// needs to begin; what two other ranks send each other passes through rank 0's memory.
//
// tcp:HOST:PORT  rank 0 listens at PORT, the others connect to HOST.
// file:PATH      rank 0 listens anywhere and writes PATH: addresses, port and a secret. The others read it until they
//                have reached a rank 0 that knows the secret, so that a file left by an earlier run only costs time.
//                Rank 0 removes the file when all are there.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <deque>
#include <filesystem>
#include <map>
#include <optional>
#include <thread>

#include "core/check.h"
#include "core/file.h"
#include "trainer/communicator.h"
#include "trainer/rank_star.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

constexpr double kPatience = 10;  ///< seconds until it says what it waits for
constexpr double kPause = 0.2;    ///< seconds between two tries
constexpr uint64_t kMostOfFile = 1 << 20;

/// What comes before the bytes of a call, so that ranks that are not at the same one notice.
struct Call {
  enum class Kind : uint32_t { all_gather, broadcast, exchange, begin } kind;
  int32_t root = 0;
  uint64_t bytes = 0;
  bool operator==(const Call&) const = default;
};

std::string text(const Call& call) {
  constexpr std::array<const char*, 4> kNames{"all_gather", "broadcast", "exchange", "begin"};
  const auto kind = static_cast<size_t>(call.kind);
  if (kind >= kNames.size()) return "something unknown";
  return fmt::format("{} of {} bytes (root {})", kNames[kind], call.bytes, call.root);
}

/// A message on its way through rank 0.
struct Parcel {
  int32_t from = 0, to = 0;
  uint64_t bytes = 0;
};

class TcpCommunicator final : public Communicator {
 public:
  /// Rank 0: the connections by rank. Others: that to rank 0 alone.
  TcpCommunicator(int rank, int size, std::vector<Socket> connections)
      : rank_(rank), size_(size), connections_(std::move(connections)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  /// All are there: rank 0 has said so.
  void begin(Deadline deadline) { meet({.kind = Call::Kind::begin}, deadline); }

  void all_gather(const void* own, size_t bytes, void* all) override {
    const Call call{.kind = Call::Kind::all_gather, .bytes = bytes};
    auto* parts = static_cast<char*>(all);
    meet(call);
    std::memmove(parts + static_cast<size_t>(rank_) * bytes, own, bytes);
    if (!leads()) {
      zero().send_all(own, bytes);
      return zero().receive_all(parts, bytes * static_cast<size_t>(size_));
    }
    for (int peer = 1; peer < size_; ++peer) to(peer).receive_all(parts + static_cast<size_t>(peer) * bytes, bytes);
    for (int peer = 1; peer < size_; ++peer) to(peer).send_all(parts, bytes * static_cast<size_t>(size_));
  }

  void broadcast(void* data, size_t bytes, int root) override {
    meet({.kind = Call::Kind::broadcast, .root = root, .bytes = bytes});
    if (!leads()) return rank_ == root ? zero().send_all(data, bytes) : zero().receive_all(data, bytes);
    if (root != 0) to(root).receive_all(data, bytes);
    for (int peer = 1; peer < size_; ++peer)
      if (peer != root) to(peer).send_all(data, bytes);
  }

  void exchange(std::span<const Message> sends, std::span<const Message> receives) override {
    meet({.kind = Call::Kind::exchange});
    std::vector<std::pair<Parcel, const void*>> out;
    for (const Message& m : sends) out.push_back({Parcel{rank_, m.peer, m.bytes}, m.data});
    if (leads()) return deliver(relay(out), receives);
    send_parcels(zero(), out);
    deliver(receive_parcels(zero()), receives);
  }

  void close() override { connections_.clear(); }

 private:
  /// Bytes that have arrived, by sender.
  using Arrived = std::map<int, std::deque<std::string>>;
  struct Held {
    Parcel parcel;
    std::string data;
  };

  Socket& zero() { return connections_[0]; }
  Socket& to(int peer) { return connections_[static_cast<size_t>(peer)]; }

  /// All ranks are at this call. Rank 0 compares, and answers with its own call, which tells the others the same.
  void meet(const Call& call, Deadline deadline = Deadline::never()) {
    require<Error>(!connections_.empty() || size_ == 1, "{}: the communicator is closed", text(call));
    Call other{};
    if (!leads()) {
      zero().send_all(&call, sizeof call, deadline);
      zero().receive_all(&other, sizeof other, deadline);
      return check_same(call, other, 0);
    }
    std::vector<Call> calls;
    for (int peer = 1; peer < size_; ++peer) to(peer).receive_all(&calls.emplace_back(), sizeof call, deadline);
    for (int peer = 1; peer < size_; ++peer) to(peer).send_all(&call, sizeof call, deadline);
    for (int peer = 1; peer < size_; ++peer) check_same(call, calls[static_cast<size_t>(peer - 1)], peer);
  }

  void check_same(const Call& own, const Call& other, int peer) const {
    require<Error>(own == other,
                   "ranks are out of step: rank {} is at {} and rank {} at {}; this is a fault of the program", rank_,
                   text(own), peer, text(other));
  }

  static void send_parcels(Socket& socket, const std::vector<std::pair<Parcel, const void*>>& parcels) {
    const uint64_t count = parcels.size();
    socket.send_all(&count, sizeof count);
    for (const auto& [parcel, data] : parcels) {
      socket.send_all(&parcel, sizeof parcel);
      socket.send_all(data, parcel.bytes);
    }
  }

  static std::vector<Held> receive_held(Socket& socket) {
    uint64_t count = 0;
    socket.receive_all(&count, sizeof count);
    std::vector<Held> held;
    while (held.size() < count) {
      Held& next = held.emplace_back();
      socket.receive_all(&next.parcel, sizeof next.parcel);
      next.data.resize(next.parcel.bytes);
      socket.receive_all(next.data.data(), next.data.size());
    }
    return held;
  }

  static Arrived receive_parcels(Socket& socket) {
    Arrived arrived;
    for (Held& held : receive_held(socket)) arrived[held.parcel.from].push_back(std::move(held.data));
    return arrived;
  }

  /// Rank 0: takes in what all send and hands out what the others are to receive; what is left is for itself.
  Arrived relay(const std::vector<std::pair<Parcel, const void*>>& own) {
    std::vector<Held> all;
    for (const auto& [parcel, data] : own)
      all.push_back({parcel, std::string(static_cast<const char*>(data), parcel.bytes)});
    for (int peer = 1; peer < size_; ++peer) std::ranges::move(receive_held(to(peer)), std::back_inserter(all));
    for (int peer = 1; peer < size_; ++peer) {
      std::vector<std::pair<Parcel, const void*>> out;
      for (const Held& held : all)
        if (held.parcel.to == peer) out.push_back({held.parcel, held.data.data()});
      send_parcels(to(peer), out);
    }
    Arrived arrived;
    for (Held& held : all)
      if (held.parcel.to == 0) arrived[held.parcel.from].push_back(std::move(held.data));
    return arrived;
  }

  void deliver(Arrived arrived, std::span<const Message> receives) const {
    for (const Message& wanted : receives) {
      auto& queue = arrived[wanted.peer];
      require<Error>(!queue.empty() && queue.front().size() == wanted.bytes,
                     "exchange: rank {} expects {} bytes of rank {}, which has sent {}; this is a fault of the program",
                     rank_, wanted.bytes, wanted.peer,
                     queue.empty() ? "nothing" : std::to_string(queue.front().size()));
      if (wanted.bytes > 0) std::memcpy(wanted.data, queue.front().data(), wanted.bytes);
      queue.pop_front();
    }
  }

  int rank_, size_;
  std::vector<Socket> connections_;
};

/// tcp:HOST:PORT or file:PATH, taken apart.
struct Rendezvous {
  Address address{};
  stdfs::path file{};
  bool by_file() const { return !file.empty(); }
};

std::optional<Address> parse_address(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view number = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  int port = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), port);
  if (error != std::errc() || end != number.data() + number.size() || port < 1 || port > 65535) return std::nullopt;
  return Address{std::string(host), port};
}

Rendezvous parse_rendezvous(const std::string& text) {
  if (text.starts_with("file:") && text.size() > 5) return {.file = text.substr(5)};
  const auto address = text.starts_with("tcp:") ? parse_address(std::string_view(text).substr(4)) : std::nullopt;
  require<ConfigError>(address.has_value(),
                       "train.rendezvous = '{}' is neither tcp:HOST:PORT (PORT from 1 to 65535) nor file:PATH", text);
  return {.address = *address};
}

/// Removes the file that it has written, unless another run has replaced it.
class PostedInvitation {
 public:
  PostedInvitation(const stdfs::path& path, const Invitation& invitation) : path_(path), text_(invitation.print()) {
    write_file_atomically(FileSystem::posix(), path_, text_);
  }
  PostedInvitation(const PostedInvitation&) = delete;
  PostedInvitation& operator=(const PostedInvitation&) = delete;
  ~PostedInvitation() {
    try {
      if (read_file(path_, kMostOfFile) == text_) FileSystem::posix().remove_all(path_);
    } catch (const Error&) {  // gone already
    }
  }

 private:
  stdfs::path path_;
  std::string text_;
};

std::vector<Socket> gather(Gathering gathering, const std::string& rendezvous, double seconds) {
  const Deadline deadline(seconds);
  gathering.accept_until(deadline.within(kPatience));
  if (!gathering.is_complete() && !deadline.over())
    spdlog::warn("rank 0 waits for {} at {}, for {:.0f} s more{}", gathering.missing(), rendezvous, deadline.left(),
                 gathering.dropped());
  gathering.accept_until(deadline);
  require<IoError>(
      gathering.is_complete(),
      "{}: {} did not come within {} s{}; check that all processes were started, with the same rendezvous, "
      "that they can reach this host ({}) and that no firewall is between them",
      rendezvous, gathering.missing(), seconds, gathering.dropped(), host_name());
  return gathering.take();
}

std::vector<Socket> gather(const Rendezvous& rendezvous, const std::string& name, int size, double seconds) {
  if (!rendezvous.by_file()) {
    Listener listener(rendezvous.address.port);
    return gather(Gathering(listener, Secret(), size), name, seconds);
  }
  Listener listener;
  const Invitation invitation = Invitation::to_this_host(size, listener.port());
  const PostedInvitation posted(rendezvous.file, invitation);
  return gather(Gathering(listener, invitation.secret, size), name, seconds);
}

/// One try.
Socket join(const Rendezvous& rendezvous, const Place& place, Deadline deadline) {
  if (!rendezvous.by_file()) return join_rank_0({rendezvous.address}, Secret(), place.rank, place.size, deadline);
  const Invitation invitation = Invitation::parse(read_file(rendezvous.file, kMostOfFile));
  return join_rank_0(invitation.to_try(), invitation.secret, place.rank, place.size, deadline);
}

/// Tries again, for the file may be an old one and rank 0 may start later.
Socket join(const Rendezvous& rendezvous, const std::string& name, const Place& place, double seconds) {
  const Deadline deadline(seconds), patience = deadline.within(kPatience);
  for (bool told = false;;) {
    std::string reason;
    try {
      return join(rendezvous, place, deadline);
    } catch (const IoError& error) {
      reason = error.what();
    }
    require<IoError>(
        !deadline.over(),
        "{}: rank {} did not reach rank 0 within {} s: {}; check that rank 0 runs, {} and that no firewall is "
        "between this host ({}) and rank 0's",
        name, place.rank, seconds, reason,
        rendezvous.by_file() ? "that the path is on a file system that all hosts share"
                             : "that the host name and the port are those of rank 0",
        host_name());
    if (!std::exchange(told, told || patience.over()) && told)
      spdlog::warn("rank {} waits for rank 0 at {}, for {:.0f} s more: {}", place.rank, name, deadline.left(), reason);
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(kPause, deadline.left())));
  }
}

std::vector<Socket> connect(const Place& place, const Rendezvous& rendezvous, const std::string& name, double seconds) {
  if (place.size == 1) return {};
  if (place.rank == 0) return gather(rendezvous, name, place.size, seconds);
  std::vector<Socket> connections;
  connections.push_back(join(rendezvous, name, place, seconds));
  return connections;
}

}  // namespace

std::unique_ptr<Communicator> make_tcp_communicator(const Place& place, const std::string& rendezvous, double seconds) {
  const Deadline deadline(seconds + 5);
  auto communicator = std::make_unique<TcpCommunicator>(
      place.rank, place.size, connect(place, parse_rendezvous(rendezvous), rendezvous, seconds));
  communicator->begin(deadline);  // rank 0 says why if others are missing
  return communicator;
}

}  // namespace moeut
