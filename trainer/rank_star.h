// How the processes of a run find rank 0 by TCP: an invitation says where it listens, and a handshake makes sure that
// both ends belong to the same run. What comes out is a star: one connection between rank 0 and each other rank.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "trainer/socket.h"

namespace moeut {

/// Known to the processes of one run: whoever else connects, by chance or by a stale address, is turned away.
using Secret = std::array<uint8_t, 16>;
Secret random_secret();

/// Where rank 0 listens, and for whom.
struct Invitation {
  Secret secret{};
  int size = 0;  ///< ranks of the run
  std::string host;
  std::vector<std::string> addresses;  ///< of the host, as numbers
  int port = 0;

  /// To this host, with a new secret.
  static Invitation to_this_host(int size, int port);
  /// Some lines of text. parse() throws IoError if they are not an invitation, or only a part of one.
  std::string print() const;
  static Invitation parse(const std::string& text);
  /// What to try, best first: from the same host its loopback, from others the host's name.
  std::vector<Address> to_try() const;
};

/// Rank 0's side: lets the others in as they come.
class Gathering {
 public:
  /// `listener` must outlive this.
  Gathering(Listener& listener, const Secret& secret, int size);

  /// Until all are there or the deadline passes. Who does not show the secret is dropped; who shows it with another
  /// number of ranks, or as a rank that is there already, is told so and dropped.
  void accept_until(Deadline deadline);
  bool is_complete() const;
  /// "rank 3", "ranks 1, 2 and 61 more".
  std::string missing() const;
  /// Why some were dropped: "; dropped: …", or nothing.
  std::string dropped() const;
  /// The connections by rank; that of rank 0 is closed.
  std::vector<Socket> take() { return std::move(connections_); }

 private:
  void let_in(Socket connection);
  void drop(const Socket& connection, const std::string& reason);
  void note_dropped(const std::string& what);
  bool is_taken(int rank) const;

  Listener& listener_;
  Secret secret_;
  int size_;
  std::vector<Socket> connections_;
  std::vector<std::string> dropped_;
};

/// The other side: one try of each address. Throws IoError naming each with what went wrong; ConfigError if rank 0 of
/// this run has refused this process, which no further try changes.
Socket join_rank_0(const std::vector<Address>& addresses, const Secret& secret, int rank, int size, Deadline deadline);

}  // namespace moeut
