// Bytes between two ends of a connection, and the errors of those that come to nothing.
#include "trainer/socket.h"

#include <doctest/doctest.h>
#include <fcntl.h>

#include <future>
#include <thread>

#include "core/error.h"

namespace moeut {
namespace {

struct Pair {
  Listener listener{};
  Socket here = Socket::connect({"127.0.0.1", listener.port()}, Deadline(5));
  Socket there = *listener.accept(Deadline(5));
};

TEST_CASE("bytes arrive as they were sent, also more of them than the system holds") {
  Pair pair;
  std::string sent(20'000'000, '\0'), received(sent.size(), '\0');
  for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761u >> 24);
  std::thread sender([&] { pair.here.send_all(sent.data(), sent.size(), Deadline(30)); });
  pair.there.receive_all(received.data(), received.size(), Deadline(30));
  sender.join();
  CHECK(sent == received);
}

TEST_CASE("by each address of this host, and by its names, one reaches a listener on it") {
  Listener listener;
  std::vector<std::string> hosts = host_addresses();
  REQUIRE_FALSE(hosts.empty());
  hosts.emplace_back("localhost");
  for (const std::string& host : hosts) {
    CAPTURE(host);
    Socket here = Socket::connect({host, listener.port()}, Deadline(5));
    CHECK(here.peer() == Address{host, listener.port()}.text());
    Socket there = *listener.accept(Deadline(5));
    there.send_all("x", 1, Deadline(5));
    char byte = 0;
    here.receive_all(&byte, 1, Deadline(5));
    CHECK(byte == 'x');
  }
  CHECK(Address{"::1", 5}.text() == "[::1]:5");
  CHECK_FALSE(host_name().empty());
}

TEST_CASE("a connection that closes is an error on the other side, and no signal") {
  Pair pair;
  pair.there.send_all("ab", 2);
  CHECK_FALSE(pair.here.has_ended());
  pair.there.close();
  char bytes[3] = {};
  CHECK_THROWS_WITH_AS(pair.here.receive_all(bytes, 3, Deadline(5)), doctest::Contains("has closed the connection"),
                       IoError);
  CHECK(pair.here.has_ended());
  const std::string many(1 << 20, 'x');
  const auto send_for_ever = [&] {
    while (true) pair.here.send_all(many.data(), many.size(), Deadline(5));
  };
  CHECK_THROWS_WITH_AS(send_for_ever(), doctest::Contains("cannot send to 127.0.0.1:"), IoError);
}

TEST_CASE("who waits for bytes that do not come gives up in time") {
  Pair pair;
  char byte = 0;
  CHECK_THROWS_WITH_AS(pair.here.receive_all(&byte, 1, Deadline(0.05)), doctest::Contains("does not answer"), IoError);
  const std::string many(1 << 26, 'x');
  CHECK_THROWS_WITH_AS(pair.here.send_all(many.data(), many.size(), Deadline(0.05)),
                       doctest::Contains("does not answer"), IoError);
  CHECK(pair.there.receive_some(&byte, 1) == 1);
  CHECK_FALSE(pair.listener.accept(Deadline(0.05)).has_value());
}

TEST_CASE("one may come before the listener") {
  const int port = Listener().port();
  auto connected = std::async(std::launch::async, [&] { return Socket::connect({"127.0.0.1", port}, Deadline(20)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  Listener listener(port);
  CHECK(listener.accept(Deadline(20)).has_value());
  CHECK(connected.get().is_open());
}

TEST_CASE("errors name host and port and what to check") {
  Listener listener;
  const int port = listener.port(), free_port = Listener().port();
  CHECK_THROWS_WITH_AS(Listener{port}, doctest::Contains(("cannot listen on port " + std::to_string(port)).c_str()),
                       IoError);
  CHECK_THROWS_WITH_AS(Socket::connect({"127.0.0.1", free_port}, Deadline(0.15)),
                       doctest::Contains(("cannot connect to 127.0.0.1:" + std::to_string(free_port) +
                                          ": Connection refused; check that a process listens there")
                                             .c_str()),
                       IoError);
  CHECK_THROWS_WITH_AS(Socket::connect_once({"no such host", 1}, Deadline(1)), doctest::Contains("'no such host'"),
                       IoError);
}

TEST_CASE("what this process starts does not inherit its connections") {
  Pair pair;
  for (const int fd : {pair.here.fd(), pair.there.fd()}) CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  const int fd = pair.here.fd();
  Socket moved = std::move(pair.here);
  CHECK(moved.fd() == fd);
  CHECK_FALSE(pair.here.is_open());  // NOLINT: what a moved-from socket is
}

TEST_CASE("deadlines") {
  CHECK(Deadline::never().poll_time() == -1);
  CHECK_FALSE(Deadline::never().over());
  CHECK(Deadline::never().within(10).left() > 9);
  CHECK(Deadline(1).within(10).left() <= 1);
  CHECK(Deadline(10).within(1).left() <= 1);
  CHECK(Deadline(0).over());
  CHECK(Deadline(-1).over());
  CHECK_FALSE(Deadline(1e300).over());
  CHECK(Deadline(0).poll_time() == 0);
}

}  // namespace
}  // namespace moeut
