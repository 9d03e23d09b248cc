#include "trainer/watchdog_connect.h"

#include <spdlog/spdlog.h>

#include <memory>
#include <thread>

#include "core/check.h"
#include "trainer/rank_star.h"

namespace moeut {
namespace {

using Connections = std::map<int, Socket>;

/// To rank 0, until it succeeds or the time is over.
Socket join_for(const std::string& invitation_text, int rank, int size, Deadline deadline) {
  require<IoError>(!invitation_text.empty(), "rank 0 does not listen");
  const Invitation invitation = Invitation::parse(invitation_text);
  while (true) {
    try {
      return join_rank_0(invitation.to_try(), invitation.secret, rank, size, deadline);
    } catch (const IoError&) {
      if (deadline.over()) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
}

Connections gather(const Communicator& communicator, Gathering gathering, Deadline deadline) {
  gathering.accept_until(deadline);
  require<IoError>(gathering.is_complete(), "{} did not connect{}", gathering.missing(), gathering.dropped());
  std::vector<Socket> sockets = gathering.take();
  Connections connections;
  for (int rank = 1; rank < communicator.size(); ++rank)
    connections.emplace(rank, std::move(sockets[static_cast<size_t>(rank)]));
  return connections;
}

/// Collective; the exceptions of each rank are its own.
Connections connect_star(Communicator& communicator, double seconds, std::string& problem) {
  std::unique_ptr<Listener> listener;
  Invitation invitation;
  Connections connections;
  try {
    if (communicator.leads()) {
      listener = std::make_unique<Listener>();
      invitation = Invitation::to_this_host(communicator.size(), listener->port());
    }
  } catch (const Error& error) {
    problem = error.what();
  }
  const std::string text = communicator.broadcast(invitation.port > 0 ? invitation.print() : "", 0);
  const Deadline deadline(seconds);
  try {
    if (!communicator.leads())
      connections.emplace(0, join_for(text, communicator.rank(), communicator.size(), deadline));
    else if (listener)
      connections = gather(communicator, Gathering(*listener, invitation.secret, communicator.size()), deadline);
  } catch (const Error& error) {
    problem = error.what();
  }
  return connections;
}

}  // namespace

Connections connect_watchdogs(Communicator& communicator, double seconds) {
  std::string problem;
  Connections connections = connect_star(communicator, seconds, problem);
  const std::vector<std::string> problems = communicator.all_gather(problem);
  for (size_t rank = problems.size(); rank-- > 0;) {  // from the end: rank 0's own problem is that others did not come
    if (problems[rank].empty()) continue;
    if (communicator.leads())
      spdlog::warn(
          "the ranks are not watched: if one ends, the others wait for it. Rank {}: {}. Let these hosts open TCP "
          "connections to each other (is there a firewall?)",
          rank, problems[rank]);
    return {};
  }
  return connections;
}

}  // namespace moeut
