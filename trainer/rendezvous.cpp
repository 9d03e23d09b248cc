#include "trainer/rendezvous.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <thread>
#include <utility>

#include "core/check.h"
#include "core/file.h"
#include "trainer/rank_star.h"

namespace moeut {
namespace {

namespace stdfs = std::filesystem;

constexpr double kPatience = 10;  ///< seconds until it says what it waits for
constexpr double kPause = 0.2;    ///< seconds between two tries
constexpr uint64_t kMostOfFile = 1 << 20;

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

}  // namespace

std::vector<Socket> meet_at(const std::string& rendezvous, const Place& place, double seconds) {
  const Rendezvous parsed = parse_rendezvous(rendezvous);
  if (place.size == 1) return {};
  if (place.rank == 0) return gather(parsed, rendezvous, place.size, seconds);
  std::vector<Socket> connections;
  connections.push_back(join(parsed, rendezvous, place, seconds));
  return connections;
}

}  // namespace moeut
