// Where ranks that nobody brings together find each other.
//
// tcp:HOST:PORT  rank 0 listens at PORT, the others connect to HOST.
// file:PATH      rank 0 listens anywhere and writes PATH: addresses, port and a secret. The others read it until they
//                have reached a rank 0 that knows the secret, so that a file left by an earlier run only costs time.
//                Rank 0 removes the file when all are there.
#pragma once

#include <string>
#include <vector>

#include "trainer/communicator.h"
#include "trainer/socket.h"

namespace moeut {

/// Rank 0: the connections by rank, its own closed. Others: that to rank 0 alone. None if there is one rank. Throws
/// ConfigError if `rendezvous` has another form or rank 0 expects other ranks; IoError, after so many seconds, if rank
/// 0 or any of the others has not come.
std::vector<Socket> meet_at(const std::string& rendezvous, const Place& place, double seconds);

}  // namespace moeut
