// A communicator without any runtime: a star of TCP connections through rank 0. For small things, such as what NCCL
// needs to begin; what two other ranks send each other passes through rank 0's memory.
#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <map>

#include "core/check.h"
#include "trainer/communicator.h"
#include "trainer/rendezvous.h"
#include "trainer/socket.h"

namespace moeut {
namespace {

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

}  // namespace

std::unique_ptr<Communicator> make_tcp_communicator(const Place& place, const std::string& rendezvous, double seconds) {
  const Deadline deadline(seconds + 5);
  auto communicator = std::make_unique<TcpCommunicator>(place.rank, place.size, meet_at(rendezvous, place, seconds));
  communicator->begin(deadline);  // rank 0 says why if others are missing
  return communicator;
}

}  // namespace moeut
