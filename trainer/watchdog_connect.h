// The connections that the watchdogs of all ranks talk by.
#pragma once

#include <map>

#include "trainer/communicator.h"
#include "trainer/socket.h"

namespace moeut {

/// Collective: on rank 0 a connection to each other rank, on the others one to rank 0. None on any rank, and a warning,
/// if some of them cannot be made within so many seconds.
std::map<int, Socket> connect_watchdogs(Communicator& communicator, double seconds);

}  // namespace moeut
