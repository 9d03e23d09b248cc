#include "data/progress_line.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>

namespace moeut {
namespace {

using namespace std::chrono_literals;

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

/// Everything that was written to a file.
std::string content(std::FILE* file) {
  std::array<char, 4096> text;
  std::rewind(file);
  return {text.data(), std::fread(text.data(), 1, text.size(), file)};
}

/// A clock that is set by hand.
struct FakeClock {
  ProgressLine::Clock::time_point time;
  std::function<ProgressLine::Clock::time_point()> now = [this] { return time; };
};

TEST_CASE("progress: share of the input, speed of the text, time left") {
  // 4 s from 100 to 300 of 1000 bytes of input: 50 bytes/s, 14 s left. 8 MB of text in that time.
  CHECK(describe_progress(4, 100, 300, 1000, 1'000'000, 9'000'000) == " 30 %  9.0 MB  2.00 MB/s  00:14 left");
  CHECK(describe_progress(1, 0, 10, 100'000, 0, 10) == "  0 %  0.0 MB  0.00 MB/s  2:46:39 left");
  CHECK(describe_progress(1, 10, 10, 100, 0, 10) == " 10 %  0.0 MB  0.00 MB/s  --:-- left");
  CHECK(describe_progress(2, 0, 5, 0, 0, 4'000'000) == "4.0 MB  2.00 MB/s");
}

TEST_CASE("progress: in a log a line every 30 s, none before, and none at the end") {
  const File log(std::tmpfile(), std::fclose);
  FakeClock clock;
  {
    ProgressLine line("reading", log.get(), clock.now);
    const auto at = [&](std::chrono::milliseconds since_start, uint64_t input, uint64_t text) {
      clock.time = ProgressLine::Clock::time_point(7s) + since_start;
      line.update(input, 1000, text);
    };
    at(0s, 100, 1'000'000);  // done by an earlier process: no speed of this one
    at(1s, 110, 2'000'000);
    at(29'999ms, 399, 3'000'000);
    CHECK(content(log.get()) == "");
    at(30s, 400, 61'000'000);
    CHECK(content(log.get()) == "reading  40 %  61.0 MB  2.00 MB/s  01:00 left\n");
    at(59'999ms, 500, 70'000'000);
    at(61s, 710, 123'000'000);
    at(90'999ms, 720, 124'000'000);  // 30 s count from the last line
    at(91s, 1000, 183'000'000);
  }
  CHECK(content(log.get()) ==
        "reading  40 %  61.0 MB  2.00 MB/s  01:00 left\n"
        "reading  71 %  123.0 MB  2.00 MB/s  00:29 left\n"
        "reading 100 %  183.0 MB  2.00 MB/s  00:00 left\n");
}

TEST_CASE("progress: on a terminal one line, replaced at most five times a second and cleared at the end") {
  const File ours(fdopen(posix_openpt(O_RDWR | O_NOCTTY), "r"), std::fclose);
  REQUIRE(ours);
  REQUIRE(grantpt(fileno(ours.get())) == 0);
  REQUIRE(unlockpt(fileno(ours.get())) == 0);
  File terminal(std::fopen(ptsname(fileno(ours.get())), "w"), std::fclose);
  REQUIRE(terminal);
  FakeClock clock;
  {
    ProgressLine line("reading", terminal.get(), clock.now);
    for (int i = 0; i <= 10; ++i) {  // every 0.1 s
      clock.time += 100ms;
      line.update(static_cast<uint64_t>(10 * i), 0, static_cast<uint64_t>(1'000'000 * i));
    }
  }
  std::string expected;
  for (const int i : {2, 4, 6, 8, 10}) expected += "\r\033[Kreading " + std::to_string(i) + ".0 MB  10.00 MB/s";
  expected += "\r\033[K";
  terminal.reset();  // the other end reads to an end
  std::array<char, 4096> seen;
  CHECK(std::string(seen.data(), std::fread(seen.data(), 1, seen.size(), ours.get())) == expected);
}

}  // namespace
}  // namespace moeut
