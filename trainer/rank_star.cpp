#include "trainer/rank_star.h"

#include <sys/random.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "core/check.h"
#include "trainer/text_util.h"

namespace moeut {
namespace {

constexpr char kFirstLine[] = "moeut-rendezvous-1";
constexpr std::array<char, 8> kHelloMagic{'m', 'o', 'e', 'u', 't', '-', 'h', '1'};
constexpr std::array<char, 8> kReplyMagic{'m', 'o', 'e', 'u', 't', '-', 'r', '1'};
constexpr double kHelloSeconds = 2;  ///< for a stranger that connects and says nothing
constexpr double kReplySeconds = 5;  ///< rank 0 may have two strangers before us
constexpr double kConnectSeconds = 3;

/// What a rank says first. The processes of a run are one program on machines of one kind: bytes as they lie in memory.
struct Hello {
  std::array<char, 8> magic = kHelloMagic;
  Secret secret{};
  int32_t rank = 0, size = 0;
};

enum class Answer : int32_t { welcome, wrong_size, no_such_rank, rank_taken };

struct Reply {
  std::array<char, 8> magic = kReplyMagic;
  Answer answer = Answer::welcome;
  int32_t size = 0;
};

std::string to_hex(const Secret& secret) {
  std::string text;
  for (const unsigned byte : secret) text += fmt::format("{:02x}", byte);
  return text;
}

/// False if `text` is not 32 hexadecimal digits.
bool from_hex(const std::string& text, Secret& secret) {
  if (text.size() != 2 * secret.size()) return false;
  if (text.find_first_not_of("0123456789abcdef") != std::string::npos) return false;
  for (size_t i = 0; i < secret.size(); ++i)
    secret[i] = static_cast<uint8_t>(std::stoi(text.substr(2 * i, 2), nullptr, 16));
  return true;
}

/// In a time that does not tell how much of it was right.
bool same(const Secret& a, const Secret& b) {
  unsigned difference = 0;
  for (size_t i = 0; i < a.size(); ++i) difference |= static_cast<unsigned>(a[i] ^ b[i]);
  return difference == 0;
}

Reply ask(Socket& connection, const Hello& hello, Deadline deadline) {
  Reply reply;
  try {
    connection.send_all(&hello, sizeof hello, deadline);
    connection.receive_all(&reply, sizeof reply, deadline);
  } catch (const IoError&) {
    throw IoError(
        fmt::format("{} does not let rank {} in: it is not rank 0 of this run", connection.peer(), hello.rank));
  }
  return reply;
}

void check_reply(const Reply& reply, const std::string& peer, int rank, int size) {
  require<IoError>(reply.magic == kReplyMagic, "{} answers, but is not rank 0 of a run", peer);
  require<ConfigError>(
      reply.answer != Answer::wrong_size,
      "rank 0 at {} expects {} ranks and rank {} was told there are {}: start all with the same number "
      "of processes, and give each run a rendezvous of its own",
      peer, reply.size, rank, size);
  require<ConfigError>(reply.answer == Answer::welcome,
                       "rank 0 at {} has a rank {} already or knows of none: start each rank once, and give each run a "
                       "rendezvous of its own",
                       peer, rank);
}

Socket join_once(const Address& address, const Secret& secret, int rank, int size, Deadline deadline) {
  Socket connection = Socket::connect_once(address, deadline.within(kConnectSeconds));
  const Hello hello{.secret = secret, .rank = rank, .size = size};
  check_reply(ask(connection, hello, deadline.within(kReplySeconds)), connection.peer(), rank, size);
  return connection;
}

}  // namespace

Secret random_secret() {
  Secret secret;
  const ssize_t got = ::getrandom(secret.data(), secret.size(), 0);  // so few bytes come at once or not at all
  require<IoError>(got == static_cast<ssize_t>(secret.size()), "the system gives no random numbers (getrandom)");
  return secret;
}

Invitation Invitation::to_this_host(int size, int port) {
  return {.secret = random_secret(), .size = size, .host = host_name(), .addresses = host_addresses(), .port = port};
}

std::string Invitation::print() const {
  std::string text = fmt::format("{}\nsecret {}\nsize {}\nhost {}\nport {}\naddresses {}\n", kFirstLine, to_hex(secret),
                                 size, host, port, addresses.size());
  for (const std::string& address : addresses) text += address + "\n";
  return text + "end\n";
}

Invitation Invitation::parse(const std::string& text) {
  Invitation result;
  std::istringstream in(text);
  std::string first, key, hex;
  size_t count = 0;
  in >> first >> key >> hex >> key >> result.size >> key >> result.host >> key >> result.port >> key >> count;
  for (std::string address; result.addresses.size() < std::min<size_t>(count, 1000) && in >> address;)
    result.addresses.push_back(address);
  in >> key;
  require<IoError>(first == kFirstLine && in && key == "end" && from_hex(hex, result.secret),
                   "what should say where rank 0 listens is something else, or of another version of this program");
  return result;
}

std::vector<Address> Invitation::to_try() const {
  std::vector<Address> tries;
  const bool here = host == host_name();
  if (!here) tries.push_back({host, port});
  for (const bool loopback : {true, false}) {
    for (const std::string& address : addresses)
      if (is_loopback(address) == loopback && (here || !loopback)) tries.push_back({address, port});
  }
  return tries;
}

Gathering::Gathering(Listener& listener, const Secret& secret, int size)
    : listener_(listener), secret_(secret), size_(size), connections_(static_cast<size_t>(size)) {}

void Gathering::accept_until(Deadline deadline) {
  while (!is_complete()) {
    auto connection = listener_.accept(deadline);
    if (!connection) return;
    try {
      let_in(std::move(*connection));
    } catch (const IoError& error) {
      note_dropped(error.what());
    }
  }
}

void Gathering::let_in(Socket connection) {
  Hello hello;
  connection.receive_all(&hello, sizeof hello, Deadline(kHelloSeconds));
  if (hello.magic != kHelloMagic || !same(hello.secret, secret_)) return drop(connection, "it is not of this run");
  Reply reply{.size = size_};
  if (hello.size != size_)
    reply.answer = Answer::wrong_size;
  else if (hello.rank <= 0 || hello.rank >= size_)
    reply.answer = Answer::no_such_rank;
  else if (is_taken(hello.rank))
    reply.answer = Answer::rank_taken;
  connection.send_all(&reply, sizeof reply, Deadline(kHelloSeconds));
  if (reply.answer != Answer::welcome)
    return drop(connection, fmt::format("it says it is rank {} of {}", hello.rank, hello.size));
  connections_[static_cast<size_t>(hello.rank)] = std::move(connection);
}

void Gathering::drop(const Socket& connection, const std::string& reason) {
  note_dropped(fmt::format("{}: {}", connection.peer(), reason));
}

void Gathering::note_dropped(const std::string& what) {
  if (dropped_.size() < 100) dropped_.push_back(what);  // a port scan must not fill the memory
}

/// A rank that has given up its first connection may come again.
bool Gathering::is_taken(int rank) const {
  const Socket& connection = connections_[static_cast<size_t>(rank)];
  return connection.is_open() && !connection.has_ended();
}

bool Gathering::is_complete() const {
  return std::all_of(connections_.begin() + 1, connections_.end(), [](const Socket& s) { return s.is_open(); });
}

std::string Gathering::missing() const {
  std::vector<std::string> ranks;
  for (size_t rank = 1; rank < connections_.size(); ++rank)
    if (!connections_[rank].is_open()) ranks.push_back(std::to_string(rank));
  return (ranks.size() == 1 ? "rank " : "ranks ") + list_some(ranks);
}

std::string Gathering::dropped() const {
  if (dropped_.empty()) return "";
  return fmt::format("; dropped: {}", list_some(dropped_));
}

Socket join_rank_0(const std::vector<Address>& addresses, const Secret& secret, int rank, int size, Deadline deadline) {
  std::string reasons;
  for (const Address& address : addresses) {
    try {
      return join_once(address, secret, rank, size, deadline);
    } catch (const IoError& error) {
      reasons += fmt::format("{}{}", reasons.empty() ? "" : "; ", error.what());
    }
    if (deadline.over()) break;
  }
  throw IoError(reasons.empty() ? "rank 0 has given no address" : reasons);
}

}  // namespace moeut
