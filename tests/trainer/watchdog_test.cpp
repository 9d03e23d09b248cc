// Runs of several ranks of which one goes wrong. As threads: what is told, by whom and how often. As processes: those
// that are killed or stopped, and the lines and the status with which the others end.
#include "trainer/watchdog.h"

#include <doctest/doctest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <sstream>

#include "tests/trainer/tcp_ranks.h"
#include "trainer/socket.h"
#include "trainer/test_fault.h"

namespace moeut {
namespace {

using testing::Ended;
using testing::RankProcesses;
using testing::run_tcp_threads;
using Clock = std::chrono::steady_clock;

constexpr char kCure[] = "; the newest checkpoint stays: start again to go on from it";

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

void sleep_for(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

/// "rank 1 (vm:4711)" of a thread of this process.
std::string name_of(int rank, pid_t process = ::getpid()) {
  return fmt::format("rank {} ({}:{})", rank, host_name(), process);
}

// ---------------------------------------------------------------- ranks that are threads

/// What the ranks of one run were told, by rank.
class Told {
 public:
  explicit Told(int size) : messages_(static_cast<size_t>(size)) {}

  std::function<void(const std::string&)> end_of(int rank) {
    return [this, rank](const std::string& message) {
      const std::lock_guard lock(mutex_);
      messages_[static_cast<size_t>(rank)].push_back(message);
    };
  }
  std::vector<std::string> of(int rank) const {
    const std::lock_guard lock(mutex_);
    return messages_[static_cast<size_t>(rank)];
  }
  /// Until this rank was told something, or for 20 s.
  void wait(int rank) const {
    for (const auto begin = Clock::now(); of(rank).empty() && seconds_since(begin) < 20;) sleep_for(0.005);
  }
  /// Until these ranks were told something.
  void wait(std::initializer_list<int> ranks) const {
    for (const int rank : ranks) wait(rank);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::vector<std::string>> messages_;
};

using Messages = std::vector<std::string>;

TEST_CASE("fail() ends the others with its message, once, and not the rank that failed") {
  for (const int failing : {0, 1}) {
    CAPTURE(failing);
    Told told(3);
    std::atomic<double> returned = 0;
    run_tcp_threads(3, [&](Communicator& communicator) {
      const int rank = communicator.rank();
      Watchdog watchdog(communicator, {.end = told.end_of(rank)});
      communicator.barrier();
      const auto begin = Clock::now();
      if (rank == failing) {
        watchdog.fail("no space left");
        returned = seconds_since(begin);
      }
      for (int other = 0; other < 3; ++other)
        if (other != failing) told.wait(other);
    });
    const Messages expected{name_of(failing) + ": no space left" + kCure};
    for (int rank = 0; rank < 3; ++rank) CHECK(told.of(rank) == (rank == failing ? Messages{} : expected));
    CHECK(returned < 1.9);
    MESSAGE("fail() of rank " << failing << " returned after " << returned.load() << " s");
  }
}

TEST_CASE("what check() throws ends all ranks") {
  for (const int failing : {0, 2}) {
    CAPTURE(failing);
    Told told(3);
    run_tcp_threads(3, [&](Communicator& communicator) {
      const int rank = communicator.rank();
      const auto check = [=] { require<BackendError>(rank != failing, "NCCL: unhandled system error"); };
      Watchdog watchdog(communicator, {.silence_seconds = 4, .end = told.end_of(rank), .check = check});
      told.wait({0, 1, 2});
    });
    for (int rank = 0; rank < 3; ++rank)
      CHECK(told.of(rank) == Messages{name_of(failing) + ": NCCL: unhandled system error" + kCure});
  }
}

TEST_CASE("without progress: those that wait are not blamed, the one that works is") {
  Told told(3);
  const auto begin = Clock::now();
  run_tcp_threads(3, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    Watchdog watchdog(communicator, {.seconds = 1, .silence_seconds = 4, .end = told.end_of(rank)});
    watchdog.enter("forward", 36);
    watchdog.enter("forward", 37);
    if (rank == 1) return told.wait({0, 1, 2});
    const Watchdog::Waiting waiting(watchdog);
    told.wait({0, 1, 2});
  });
  MESSAGE("a limit of 1 s: told after " << seconds_since(begin) << " s");
  for (int rank = 0; rank < 3; ++rank) {
    REQUIRE(told.of(rank).size() == 1);
    CHECK(told.of(rank)[0].starts_with(name_of(1) + " has made no progress for "));
    CHECK(told.of(rank)[0].ends_with(std::string(" s in forward of step 37 (train.watchdog_seconds = 1)") + kCure));
  }
}

TEST_CASE("all ranks wait for each other") {
  Told told(2);
  run_tcp_threads(2, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    Watchdog watchdog(communicator, {.seconds = 1, .silence_seconds = 4, .end = told.end_of(rank)});
    watchdog.enter(rank == 0 ? "all-reduce" : "validation", rank == 0 ? 4 : 0);
    const Watchdog::Waiting waiting(watchdog);
    told.wait({0, 1});
  });
  for (int rank = 0; rank < 2; ++rank) {
    REQUIRE(told.of(rank).size() == 1);
    CHECK(told.of(rank)[0].starts_with("all 2 ranks have waited for each other for "));
    CHECK(told.of(rank)[0].ends_with(" s (train.watchdog_seconds = 1): " + name_of(0) + " in all-reduce of step 4, " +
                                     name_of(1) + " in validation" + kCure));
  }
}

TEST_CASE("marks, and work for which others wait long, are no reason to end; goodbyes neither, also early ones") {
  Told told(4);
  run_tcp_threads(4, [&](Communicator& communicator) {
    const int rank = communicator.rank();
    Watchdog watchdog(communicator, {.seconds = 1, .silence_seconds = 2, .end = told.end_of(rank)});
    watchdog.enter("validation", 1);
    if (rank == 3) return;
    std::optional<Watchdog::Waiting> waiting;
    if (rank == 1) waiting.emplace(watchdog);
    for (int i = 0; i < 50; ++i) {
      sleep_for(0.05);
      if (rank == 0) watchdog.renew();
      if (rank == 2) watchdog.enter("validation", 1);
    }
  });
  for (int rank = 0; rank < 4; ++rank) CHECK(told.of(rank) == Messages{});
}

TEST_CASE("begin and end in a moment; fail() when all is over does nothing") {
  Told told(6);
  const auto begin = Clock::now();
  for (int round = 0; round < 5; ++round) {
    run_tcp_threads(6, [&](Communicator& communicator) {
      Watchdog watchdog(communicator, {.end = told.end_of(communicator.rank())});
      communicator.barrier();
    });
  }
  MESSAGE("6 ranks begin and end in " << seconds_since(begin) / 5 << " s");
  for (int rank = 0; rank < 6; ++rank) CHECK(told.of(rank) == Messages{});
  run_tcp_threads(2, [&](Communicator& communicator) {
    std::optional<Watchdog> watchdog;
    watchdog.emplace(communicator, WatchdogOptions{.end = told.end_of(communicator.rank())});
    communicator.barrier();
    if (communicator.leads()) watchdog.reset();
    communicator.barrier();
    if (!communicator.leads()) watchdog->fail("too late");
  });
  for (int rank = 0; rank < 2; ++rank) CHECK(told.of(rank) == Messages{});
}

/// Lets the watchdog of rank 1 hear of an address where nobody is.
class Misleading final : public Communicator {
 public:
  explicit Misleading(Communicator& real) : real_(real) {}
  int rank() const override { return real_.rank(); }
  int size() const override { return real_.size(); }
  void all_gather(const void* own, size_t bytes, void* all) override { real_.all_gather(own, bytes, all); }
  void broadcast(void* data, size_t bytes, int root) override {
    real_.broadcast(data, bytes, root);
    std::string text(static_cast<const char*>(data), bytes);
    const size_t port = text.find("port ");
    if (rank() == 1 && port != std::string::npos) std::copy_n("00001", 5, static_cast<char*>(data) + port + 5);
  }
  void exchange(std::span<const Message>, std::span<const Message>) override {}

 private:
  Communicator& real_;
};

TEST_CASE("where no connection can be made there is a warning, and nobody is watched") {
  std::ostringstream text;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::ostream_sink_mt>(text)));
  Told told(3);
  run_tcp_threads(3, [&](Communicator& communicator) {
    Misleading misleading(communicator);
    Watchdog watchdog(misleading, {.connect_seconds = 0.3, .end = told.end_of(communicator.rank())});
    watchdog.enter("forward", 1);
    watchdog.fail("nobody hears it");
    CHECK(watchdog.where() == "forward of step 1");
  });
  spdlog::set_default_logger(before);
  CAPTURE(text.str());
  CHECK(text.str().find("the ranks are not watched: if one ends, the others wait for it. Rank 1: cannot connect to ") !=
        std::string::npos);
  CHECK(text.str().find("firewall") != std::string::npos);
  for (int rank = 0; rank < 3; ++rank) CHECK(told.of(rank) == Messages{});
}

TEST_CASE("a rank alone has marks and no thread") {
  const auto threads = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/task"), std::filesystem::directory_iterator());
  };
  const auto before = threads();
  const auto communicator = make_single_communicator();
  const auto fails = [] { throw Error("never asked"); };
  Watchdog watchdog(*communicator, {.seconds = 0.01, .check = fails});
  CHECK(threads() == before);
  CHECK(watchdog.where() == "the start");
  watchdog.enter("loading", 0);
  CHECK(watchdog.where() == "loading");
  watchdog.enter("forward", 37);
  watchdog.renew();
  const Watchdog::Waiting waiting(watchdog);
  watchdog.fail("nobody to tell");
  CHECK(watchdog.where() == "forward of step 37");
}

// ---------------------------------------------------------------- ranks that are processes

/// Steps for ever, or until step `last`; `waiter` waits in the first for the others.
std::function<void(Communicator&)> train(const WatchdogOptions& options, int last = 1'000'000, int waiter = -1) {
  return [=](Communicator& communicator) {
    Watchdog watchdog(communicator, options);
    communicator.barrier();
    for (int step = 1; step <= last; ++step) {
      watchdog.enter("forward", step);
      if (communicator.rank() == waiter) {
        const Watchdog::Waiting waiting(watchdog);
        while (true) ::pause();
      }
      sleep_for(0.01);
      watchdog.enter("update", step);
    }
  };
}

void check_ended(const Ended& ended, int status, const std::string& output) {
  CHECK(ended.signal == 0);
  CHECK(ended.status == status);
  CHECK(ended.output == output);
}

TEST_CASE("a rank that is killed ends the run at once: rank 0 says which and where, the others nothing") {
  RankProcesses ranks(4, train({}, 1'000'000, 3), "kill@2:forward:5");
  CHECK(ranks.wait(2).signal == SIGKILL);
  const auto begin = Clock::now();
  check_ended(ranks.wait(0), 1,
              "moeut-train: " + name_of(2, ranks.process(2)) + " died during forward of step 5" + kCure + "\n");
  for (const int rank : {1, 3}) check_ended(ranks.wait(rank), 1, "");
  MESSAGE("after the death of rank 2 the others had ended in " << seconds_since(begin) << " s");
  CHECK(seconds_since(begin) < 5);  // long before a silence would show
}

TEST_CASE("when rank 0 is killed the lowest other rank says so") {
  RankProcesses ranks(4, train({}), "kill@0:update:5");
  CHECK(ranks.wait(0).signal == SIGKILL);
  const auto begin = Clock::now();
  const Ended first = ranks.wait(1);
  check_ended(first, 1,
              "moeut-train: " + name_of(0, ranks.process(0)) + " died during update of step 5" + kCure + "\n");
  for (const int rank : {2, 3}) check_ended(ranks.wait(rank), 1, "");
  MESSAGE("after the death of rank 0 the others had ended in " << seconds_since(begin) << " s");
  CHECK(seconds_since(begin) < 5);  // long before a silence would show
}

TEST_CASE("what other ranks complain about when one has died is not what is told") {
  const auto train_together = [](Communicator& communicator) {
    Watchdog watchdog(communicator, {});
    try {
      for (int step = 1;; ++step) {
        watchdog.enter("all-reduce", step);
        const Watchdog::Waiting waiting(watchdog);
        communicator.barrier();
      }
    } catch (const IoError& error) {  // for the connection to the dead rank has closed
      watchdog.fail(error.what());
      ::dprintf(STDERR_FILENO, "%s\n", error.what());
    }
  };
  RankProcesses ranks(3, train_together, "kill@1:all-reduce:100");
  CHECK(ranks.wait(1).signal == SIGKILL);
  check_ended(ranks.wait(0), 1,
              "moeut-train: " + name_of(1, ranks.process(1)) + " died during all-reduce of step 100" + kCure + "\n");
  check_ended(ranks.wait(2), 1, "");
}

TEST_CASE("a normal end says nothing, with status 0") {
  RankProcesses ranks(3, train({}, 5));
  for (int rank = 0; rank < 3; ++rank) check_ended(ranks.wait(rank), 0, "");
}

TEST_CASE("stopped and hanging ranks, side by side") {
  const WatchdogOptions options{.seconds = 1, .silence_seconds = 2};
  RankProcesses one_stops(3, train(options), "stop@1:forward:5");
  RankProcesses zero_stops(3, train(options), "stop@0:forward:5");
  RankProcesses one_hangs(3, train(options, 1'000'000, 2), "hang@1:forward:5");
  RankProcesses all_stop(2, train({.seconds = 1, .silence_seconds = 2}, 100));

  one_stops.wait_for_stop(1);
  const auto begin = Clock::now();
  zero_stops.wait_for_stop(0);
  all_stop.send(SIGSTOP);

  const std::string silent = " has been silent for 2 s, last seen in forward of step 5: its process ";
  Ended ended = one_stops.wait(0);
  MESSAGE("a limit of 2 s: rank 0 had ended " << seconds_since(begin) << " s after rank 1 was stopped");
  CHECK(ended.status == 1);
  CHECK(ended.output.starts_with("moeut-train: " + name_of(1, one_stops.process(1)) + silent));
  check_ended(one_stops.wait(2), 1, "");
  one_stops.send(SIGCONT);  // it has been told meanwhile
  check_ended(one_stops.wait(1), 1, ended.output);

  ended = zero_stops.wait(1);
  CHECK(ended.status == 1);
  CHECK(ended.output.starts_with("moeut-train: " + name_of(0, zero_stops.process(0)) + silent));
  check_ended(zero_stops.wait(2), 1, "");
  zero_stops.send(SIGCONT);
  check_ended(zero_stops.wait(0), 1, ended.output);

  ended = one_hangs.wait(0);
  CHECK(ended.status == 1);
  CHECK(ended.output.starts_with("moeut-train: " + name_of(1, one_hangs.process(1)) + " has made no progress for "));
  CHECK(ended.output.ends_with(std::string(" s in forward of step 5 (train.watchdog_seconds = 1)") + kCure + "\n"));
  check_ended(one_hangs.wait(1), 1, ended.output);
  check_ended(one_hangs.wait(2), 1, "");

  sleep_for(3 - std::min(3.0, seconds_since(begin)));
  all_stop.send(SIGCONT);  // a job that was suspended as a whole goes on
  for (const int rank : {0, 1}) check_ended(all_stop.wait(rank), 0, "");
}

TEST_CASE("a fault for tests has to be one") {
  for (const char* wrong : {"", "kill", "kill@1", "kill@1:forward", "kill@1:forward:", "kill@1::3", "kill@:forward:3",
                            "kill@-1:forward:3", "kill@1:forward:x", "maim@1:forward:3", "kill@1:forward:3 "}) {
    CAPTURE(wrong);
    CHECK_THROWS_WITH_AS(TestFault::parse(wrong), doctest::Contains("ACTION@RANK:PHASE:STEP"), ConfigError);
  }
  for (const char* right : {"kill@1:forward:3", "stop@1:all-reduce:0", "hang@1:a: phase:7"})
    CHECK(TestFault::parse(right).rank() == 1);
  ::setenv("MOEUT_TEST_FAULT", "nonsense", 1);
  const auto communicator = make_single_communicator();
  CHECK_THROWS_AS(Watchdog(*communicator, {}), ConfigError);
  ::unsetenv("MOEUT_TEST_FAULT");
}

}  // namespace
}  // namespace moeut
