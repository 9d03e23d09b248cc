// The bar, the plain lines and the log.
#include "trainer/progress.h"

#include <doctest/doctest.h>
#include <spdlog/spdlog.h>

#include <fstream>
#include <iterator>

#include "core/error.h"
#include "tests/scratch_folder.h"
#include "trainer/log.h"

using namespace moeut;
using namespace std::chrono_literals;

namespace {

/// A Terminal whose output can be read back.
class Screen {
 public:
  explicit Screen(bool draws_bars) : file_(std::tmpfile()), terminal(std::make_shared<Terminal>(file_, draws_bars)) {}
  ~Screen() {
    terminal.reset();
    std::fclose(file_);
  }
  std::string text() const {
    std::rewind(file_);
    std::string all;
    for (int c; (c = std::fgetc(file_)) != EOF;) all += static_cast<char>(c);
    return all;
  }

 private:
  std::FILE* file_;

 public:
  std::shared_ptr<Terminal> terminal;
};

}  // namespace

TEST_CASE("durations and short numbers") {
  CHECK(duration_text(-1) == "--");
  CHECK(duration_text(59.4) == "59s");
  CHECK(duration_text(59.5) == "1:00");
  CHECK(duration_text(3723) == "1:02:03");
  CHECK(duration_text(3 * 86400 + 4 * 3600 + 5 * 60) == "3d 04:05");
  CHECK(duration_text(1e300) == "115740d 17:46");
  CHECK(short_number(0) == "0");
  CHECK(short_number(950) == "950");
  CHECK(short_number(999.6) == "1.00k");
  CHECK(short_number(12345) == "12.3k");
  CHECK(short_number(4.56e6) == "4.56M");
}

TEST_CASE("the bar fills with the steps and fits the width") {
  const ProgressState state{.step = 250, .steps = 1000, .loss = 3.21404, .tokens_per_s = 12345, .eta_s = 62};
  CHECK(progress_line(state) == "step 250/1000  loss 3.2140  12.3k tokens/s  ETA 1:02");
  CHECK(progress_bar(state, 80) == "[######------------------] " + progress_line(state));
  for (int width = 0; width < 200; ++width)
    CHECK(progress_bar(state, width).size() <= static_cast<size_t>(std::max(width - 1, 0)));
}

TEST_CASE("elsewhere than on a terminal: plain lines at the asked steps") {
  Screen screen(false);
  const Progress::Clock::time_point start{};
  Progress progress(screen.terminal, {.first_step = 5, .steps = 12, .line_every = 5}, start);
  for (int64_t step = 6; step <= 12; ++step) progress.update(step, 2.5, 100, start + (step - 5) * 10s);
  progress.finish();
  CHECK(screen.text() ==
        "step 6/12  loss 2.5000  100 tokens/s  ETA 1:00\n"
        "step 10/12  loss 2.5000  100 tokens/s  ETA 20s\n"
        "step 12/12  loss 2.5000  100 tokens/s  ETA 0s\n");
}

TEST_CASE("time that was no training does not count in the estimate") {
  Screen screen(false);
  const Progress::Clock::time_point start{};
  Progress progress(screen.terminal, {.steps = 10}, start);
  progress.exclude(90s);
  progress.update(1, 2.5, 100, start + 100s);
  CHECK(progress.state().eta_s == doctest::Approx(90));
}

TEST_CASE("on a terminal: a log line goes above the bar, which is drawn at most ten times a second") {
  Screen screen(true);
  const Progress::Clock::time_point start{};
  Progress progress(screen.terminal, {.steps = 3}, start);
  progress.update(1, 2, 100, start + 50ms);
  progress.update(2, 1, 100, start + 70ms);  // too soon
  const std::string bar = progress_bar({.step = 1, .steps = 3, .loss = 2, .tokens_per_s = 100, .eta_s = 0.1}, 80);
  {
    const Log log(screen.terminal);
    spdlog::warn("loss {}", "spike");
  }
  progress.finish();
  CHECK(screen.text() == "\r\x1b[K" + bar + "\r\x1b[Kwarning: loss spike\n" + bar + "\n");
}

TEST_CASE("the log's file has what the terminal has, and what is for the file alone") {
  const testing::ScratchFolder folder;
  const auto path = folder.path() / "train.log";
  for (int run = 0; run < 2; ++run) {
    Screen screen(false);
    Log log(screen.terminal);
    spdlog::info("before");
    log.file_only("lost");
    log.open_file(path);
    spdlog::info("both");
    log.file_only("file {}");
    CHECK(screen.text() == "before\nboth\n");
  }
  std::ifstream in(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  REQUIRE(lines.size() == 6);  // the second run appends
  CHECK(lines[0].ends_with(" info before"));
  CHECK(lines[1].ends_with(" info both"));
  CHECK(lines[5].ends_with(" info file {}"));
  Screen screen(false);
  Log log(screen.terminal);
  CHECK_THROWS_WITH_AS(log.open_file(folder.path()), doctest::Contains("choose a run.dir"), IoError);
}
