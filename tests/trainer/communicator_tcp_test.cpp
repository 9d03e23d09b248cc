// Ranks that meet by a file or a port, what they then send each other, and who is turned away.
#include <doctest/doctest.h>

#include <future>
#include <mutex>
#include <optional>

#include "core/file.h"
#include "tests/scratch_folder.h"
#include "tests/trainer/tcp_ranks.h"
#include "trainer/communicator.h"
#include "trainer/rank_star.h"

namespace moeut {
namespace {

using testing::run_tcp_threads;
using testing::ScratchFolder;

std::string file_in(const ScratchFolder& folder) {
  return "file:" + (folder.path() / "rendezvous").string();
}

/// In a thread of its own.
std::future<std::unique_ptr<Communicator>> start(int rank, int size, const std::string& rendezvous,
                                                 double seconds = 30) {
  return std::async(std::launch::async,
                    [=] { return make_tcp_communicator({.rank = rank, .size = size}, rendezvous, seconds); });
}

/// The message with which `call` ends, or nothing.
template <class F>
std::string error_of(F&& call) {
  try {
    call();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

void check_contains(const std::string& text, const std::string& part) {
  CAPTURE(text);
  CAPTURE(part);
  CHECK(text.find(part) != std::string::npos);
}

TEST_CASE("all_gather, broadcast and texts among 1 to 5 ranks") {
  std::mutex mutex;  // doctest's counters are not for threads
  for (int size = 1; size <= 5; ++size) {
    run_tcp_threads(size, [&](Communicator& communicator) {
      const int rank = communicator.rank();
      const auto squares = communicator.all_gather_value<int64_t>(rank * rank);
      const auto texts = communicator.all_gather(std::string(static_cast<size_t>(rank) * 100'000, 'x'));
      std::vector<std::string> heard;
      for (int root = 0; root < size; ++root)
        heard.push_back(communicator.broadcast("from " + std::to_string(rank), root));
      communicator.barrier();
      const std::lock_guard lock(mutex);
      CHECK(communicator.size() == size);
      for (int64_t other = 0; other < size; ++other) {
        CHECK(squares[static_cast<size_t>(other)] == other * other);
        CHECK(texts[static_cast<size_t>(other)].size() == static_cast<size_t>(other) * 100'000);
        CHECK(heard[static_cast<size_t>(other)] == "from " + std::to_string(other));
      }
    });
  }
}

/// What `from` sends to `to` as its n-th message: a length and bytes of their own.
std::string message_of(int from, int to, int n) {
  return std::string(static_cast<size_t>(n) * 70'000 + static_cast<size_t>(10 * from + to),
                     static_cast<char>('a' + 9 * from + 3 * to + n));
}

TEST_CASE("exchange: everybody with everybody, several messages in order, empty ones too") {
  constexpr int kSize = 4, kMessages = 3;
  std::atomic<int> wrong = 0;
  run_tcp_threads(kSize, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    std::vector<std::string> out, in, expected;
    std::vector<Message> sends, receives;
    for (int n = 0; n < kMessages; ++n) {
      for (int peer = 0; peer < kSize; ++peer) {
        if (peer == rank) continue;
        out.push_back(message_of(rank, peer, n));
        expected.push_back(message_of(peer, rank, n));
        in.emplace_back(expected.back().size(), '\0');
      }
    }
    out.reserve(100), in.reserve(100);
    for (size_t i = 0, n = 0; n < kMessages; ++n) {
      for (int peer = 0; peer < kSize; ++peer) {
        if (peer == rank) continue;
        sends.push_back({peer, out[i].data(), out[i].size()});
        receives.push_back({peer, in[i].data(), in[i].size()});
        ++i;
      }
    }
    const int next = (rank + 1) % kSize, previous = (rank + kSize - 1) % kSize;
    sends.push_back({next, nullptr, 0});
    receives.push_back({previous, nullptr, 0});
    for (int round = 0; round < 3; ++round) communicator.exchange(sends, receives);
    if (in != expected) ++wrong;
    communicator.exchange({}, {});
  });
  CHECK(wrong == 0);
}

TEST_CASE("ranks that make different calls are told so") {
  CHECK_THROWS_WITH_AS(run_tcp_threads(2,
                                       [&](Communicator& communicator) {
                                         int64_t value = 0;
                                         if (communicator.leads())
                                           communicator.broadcast(&value, sizeof value, 0);
                                         else
                                           communicator.barrier();
                                       }),
                       doctest::Contains("out of step: rank 0 is at broadcast of 8 bytes (root 0) and rank 1 at "
                                         "all_gather of 1 bytes"),
                       Error);
  CHECK_THROWS_WITH_AS(run_tcp_threads(2,
                                       [&](Communicator& communicator) {
                                         int64_t value = 0;
                                         const int peer = 1 - communicator.rank();
                                         const Message sends{peer, &value, 4}, receives{peer, &value, 8};
                                         communicator.exchange({&sends, 1}, {&receives, 1});
                                       }),
                       doctest::Contains("expects 8 bytes of rank 1, which has sent 4"), Error);
}

TEST_CASE("a rank that ends is an error for the others, not a hang") {
  CHECK_THROWS_WITH_AS(run_tcp_threads(2,
                                       [](Communicator& communicator) {
                                         if (communicator.leads()) communicator.barrier();
                                       }),
                       doctest::Contains("has closed the connection"), IoError);
}

TEST_CASE("by a port; the ranks come in any order") {
  const std::string rendezvous = "tcp:127.0.0.1:" + std::to_string(Listener().port());
  auto second = start(2, 3, rendezvous);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  auto zero = start(0, 3, rendezvous), first = start(1, 3, rendezvous);
  const auto a = zero.get(), b = first.get(), c = second.get();
  CHECK(a->size() + b->rank() + c->rank() == 6);
}

TEST_CASE("the file is gone when all are there, and also when rank 0 gives up") {
  const ScratchFolder folder;
  const std::string rendezvous = file_in(folder);
  auto zero = start(0, 2, rendezvous), one = start(1, 2, rendezvous);
  zero.get(), one.get();
  CHECK(std::filesystem::is_empty(folder.path()));
  const std::string error = error_of([&] { make_tcp_communicator({.rank = 0, .size = 3}, rendezvous, 0.2); });
  check_contains(error, rendezvous + ": ranks 1, 2 did not come within 0.2 s");
  check_contains(error, "firewall");
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a file of an earlier run does not lead astray: nobody there, a stranger, another rank 0") {
  for (const char* kind : {"nobody", "silent stranger", "another rank 0", "half a file"}) {
    CAPTURE(kind);
    const ScratchFolder folder;
    const std::string rendezvous = file_in(folder);
    std::optional<Listener> stranger(std::in_place);
    Invitation old = Invitation::to_this_host(2, stranger->port());
    Gathering another(*stranger, old.secret, 2);
    if (kind == std::string("nobody")) old.port = Listener().port();
    if (kind == std::string("another rank 0")) old.secret = random_secret();
    std::string text = old.print();
    if (kind == std::string("half a file")) text.resize(text.size() / 2);
    write_file_atomically(FileSystem::posix(), folder.path() / "rendezvous", text);
    auto one = start(1, 2, rendezvous);
    if (kind == std::string("silent stranger"))
      stranger->accept(Deadline(20));  // and closes at once
    else
      another.accept_until(Deadline(0.3));
    CHECK_FALSE(another.is_complete());
    stranger.reset();
    auto zero = start(0, 2, rendezvous);
    CHECK(zero.get()->size() == 2);
    CHECK(one.get()->rank() == 1);
  }
}

TEST_CASE("a connection with a wrong secret is dropped, and the right one let in") {
  Listener listener;
  const Invitation invitation = Invitation::to_this_host(3, listener.port());
  Gathering gathering(listener, invitation.secret, 3);
  auto others = std::async(std::launch::async, [&] {
    std::vector<std::string> errors;
    const std::vector<Address> here{{"127.0.0.1", invitation.port}};
    const auto join = [&](const Secret& secret, int rank, int size) {
      return join_rank_0(here, secret, rank, size, Deadline(10));
    };
    errors.push_back(error_of([&] { join(random_secret(), 1, 3); }));
    errors.push_back(
        error_of([&] { Socket::connect(here[0], Deadline(5)).send_all("GET / HTTP/1.1\r\n\r\n, and so on", 30); }));
    errors.push_back(error_of([&] { join(invitation.secret, 1, 4); }));
    errors.push_back(error_of([&] { join(invitation.secret, 3, 3); }));
    const Socket one = join(invitation.secret, 1, 3);
    errors.push_back(error_of([&] { join(invitation.secret, 1, 3); }));
    const Socket two = join(invitation.secret, 2, 3);
    return errors;
  });
  gathering.accept_until(Deadline(20));
  CHECK(gathering.is_complete());
  const auto errors = others.get();
  check_contains(errors[0], "does not let rank 1 in: it is not rank 0 of this run");
  CHECK(errors[1] == "");
  check_contains(errors[2], "expects 3 ranks and rank 1 was told there are 4");
  check_contains(errors[3], "has a rank 3 already or knows of none");
  check_contains(errors[4], "has a rank 1 already");
  check_contains(gathering.dropped(), "it is not of this run");
  check_contains(gathering.dropped(), "it says it is rank 1 of 4");
}

TEST_CASE("another number of ranks is refused at once, by port and by file") {
  const ScratchFolder folder;
  for (const std::string& rendezvous : {file_in(folder), "tcp:127.0.0.1:" + std::to_string(Listener().port())}) {
    auto zero = start(0, 2, rendezvous, 1);
    CHECK_THROWS_WITH_AS(start(1, 3, rendezvous).get(),
                         doctest::Contains("expects 2 ranks and rank 1 was told there are 3"), ConfigError);
    CHECK_THROWS_WITH_AS(zero.get(), doctest::Contains("it says it is rank 1 of 3"), IoError);
  }
}

TEST_CASE("errors of those who find nobody say what to check") {
  const ScratchFolder folder;
  const std::string by_file = error_of([&] { start(1, 2, file_in(folder), 0.3).get(); });
  check_contains(by_file, file_in(folder) + ": rank 1 did not reach rank 0 within 0.3 s");
  check_contains(by_file, "file system that all hosts share");
  const std::string port = std::to_string(Listener().port());
  const std::string by_port = error_of([&] { start(1, 2, "tcp:127.0.0.1:" + port, 0.3).get(); });
  check_contains(by_port, "cannot connect to 127.0.0.1:" + port);
  check_contains(by_port, "the host name and the port are those of rank 0");
  Listener taken;
  check_contains(error_of([&] { start(0, 2, "tcp:127.0.0.1:" + std::to_string(taken.port()), 0.3).get(); }),
                 "cannot listen on port");
  CHECK_THROWS_AS(start(0, 2, "file:/no/such/folder/x", 0.3).get(), IoError);
}

TEST_CASE("a rendezvous of another form is a ConfigError") {
  for (const char* wrong : {"", "auto", "file:", "tcp:", "tcp:host", "tcp:host:", "tcp::29500", "tcp:host:0",
                            "tcp:host:65536", "tcp:host:29500x"}) {
    CAPTURE(wrong);
    CHECK_THROWS_WITH_AS(make_tcp_communicator({.rank = 1, .size = 2}, wrong, 0.1),
                         doctest::Contains("neither tcp:HOST:PORT"), ConfigError);
  }
}

TEST_CASE("an invitation reads back as it was printed, and nothing else does") {
  const Invitation one = Invitation::to_this_host(4, 29500), other = Invitation::to_this_host(4, 29500);
  const Invitation read = Invitation::parse(one.print());
  CHECK(read.print() == one.print());
  CHECK(read.secret == one.secret);
  CHECK(one.secret != other.secret);
  CHECK(read.to_try().size() == read.addresses.size());  // from this host its name is not needed
  const std::string text = one.print();
  for (size_t length = 0; length + 1 < text.size(); ++length)
    CHECK_THROWS_AS(Invitation::parse(text.substr(0, length)), IoError);
  Invitation elsewhere = one;
  elsewhere.host = "another-host";
  CHECK(elsewhere.to_try().front().host == "another-host");
  for (const Address& address : elsewhere.to_try()) CHECK_FALSE(is_loopback(address.host));
}

}  // namespace
}  // namespace moeut
