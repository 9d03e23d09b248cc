// What the watchdog decides, for times and states made up.
#include "trainer/watchdog_judge.h"

#include <doctest/doctest.h>

namespace moeut {
namespace {

WatchdogJudge judge_of(int size, JudgeOptions options = {.seconds = 600, .silence_seconds = 20, .grace = 0.3}) {
  std::vector<std::string> names;
  for (int rank = 0; rank < size; ++rank)
    names.push_back("rank " + std::to_string(rank) + " (gpu7:10" + std::to_string(rank) + ")");
  return {names, options, 0};
}

std::string message(const std::optional<Verdict>& verdict) {
  return verdict ? verdict->message : "";
}

TEST_CASE("a death is told at once; of several on a host all are named") {
  WatchdogJudge judge = judge_of(4);
  judge.heard(2, {.where = "forward of step 37"}, 1);
  CHECK(message(judge.judge(1)) == "");
  judge.died(2);
  CHECK(message(judge.judge(1)) == "rank 2 (gpu7:102) died during forward of step 37");
  CHECK(judge.judge(1)->rank == 2);
  judge.died(3);
  CHECK(message(judge.judge(1)) == "rank 2 (gpu7:102) died during forward of step 37, and with it rank 3 (gpu7:103)");
}

TEST_CASE("who has said goodbye can neither die nor fall silent nor wait") {
  WatchdogJudge judge = judge_of(3);
  judge.left(1);
  judge.died(1);
  for (const int rank : {0, 2}) judge.heard(rank, {.waiting = true, .age = 599}, 1000);
  CHECK(message(judge.judge(1000)) == "");
  CHECK(judge.lowest_other() == 2);
  judge.left(2);
  CHECK(judge.lowest_other() == 0);
}

TEST_CASE("silence") {
  WatchdogJudge judge = judge_of(2);
  judge.heard(0, {}, 30);
  judge.heard(1, {.where = "saving of step 5"}, 10);
  CHECK(message(judge.judge(30)) == "");
  CHECK(message(judge.judge(30.5)) ==
        "rank 1 (gpu7:101) has been silent for 20 s, last seen in saving of step 5: its process or its host has "
        "stopped, or "
        "the network between them");
  WatchdogJudge patient = judge_of(2, {.seconds = 600, .silence_seconds = 0});
  CHECK(message(patient.judge(1e6)) == "");
}

TEST_CASE("of those at work the one longest without a mark is blamed, those that wait are not") {
  WatchdogJudge judge = judge_of(3);
  judge.heard(0, {.where = "all-reduce of step 37", .waiting = true, .age = 2000}, 1000);
  judge.heard(1, {.where = "backward of step 37", .age = 601}, 1000);
  judge.heard(2, {.where = "forward of step 37", .age = 612}, 1000);
  CHECK(message(judge.judge(1000)) ==
        "rank 2 (gpu7:102) has made no progress for 612 s in forward of step 37 (train.watchdog_seconds = 600)");
  judge.heard(2, {.where = "forward of step 37", .age = 1}, 1000);
  CHECK(judge.judge(1000)->rank == 1);
  judge.heard(1, {.where = "backward of step 37", .age = 600}, 1000);
  CHECK(message(judge.judge(1000)) == "");
  WatchdogJudge patient = judge_of(3, {.seconds = 0});
  patient.heard(1, {.age = 1e6}, 1);
  CHECK(message(patient.judge(1)) == "");
}

TEST_CASE("all wait: for as long as their waits have in common") {
  WatchdogJudge judge = judge_of(2, {.seconds = 60});
  judge.heard(0, {.where = "all-reduce of step 3", .waiting = true, .age = 90}, 100);
  judge.heard(1, {.where = "shared stop", .waiting = true, .age = 62}, 101);  // from 39 to 100 both
  CHECK(message(judge.judge(101)) ==
        "all 2 ranks have waited for each other for 61 s (train.watchdog_seconds = 60): rank 0 (gpu7:100) in "
        "all-reduce of "
        "step 3, rank 1 (gpu7:101) in shared stop");
  CHECK(judge.judge(101)->rank == -1);
  judge.heard(1, {.where = "shared stop", .waiting = true, .age = 62}, 103);  // from 41
  CHECK(message(judge.judge(103)) == "");
  judge.heard(0, {.where = "all-reduce of step 3", .waiting = false, .age = 2}, 103);
  CHECK(message(judge.judge(103)) == "");
}

TEST_CASE("of many that wait eight are named") {
  WatchdogJudge judge = judge_of(12, {.seconds = 60});
  for (int rank = 0; rank < 12; ++rank) judge.heard(rank, {.where = "x", .waiting = true, .age = 90}, 100);
  const std::string text = message(judge.judge(100));
  CHECK(text.ends_with("rank 7 (gpu7:107) in x and 4 more"));
}

TEST_CASE("a failure waits a moment for the death that may be its cause") {
  WatchdogJudge judge = judge_of(3);
  CHECK_FALSE(judge.is_urgent());
  judge.failed(1, "NCCL: remote process exited", 1);
  judge.failed(1, "and again", 1.1);
  CHECK(judge.is_urgent());
  CHECK(message(judge.judge(1.2)) == "");
  CHECK(message(judge.judge(1.31)) == "rank 1 (gpu7:101): NCCL: remote process exited");
  judge.died(2);
  CHECK(message(judge.judge(1.31)) == "rank 2 (gpu7:102) died during the start");
}

TEST_CASE("who has failed and then ends has not died, and the first to fail is named") {
  WatchdogJudge judge = judge_of(3);
  judge.failed(2, "no space left", 1);
  judge.failed(1, "rank 2 has closed the connection", 1.1);
  judge.died(2);
  judge.left(1);
  CHECK(message(judge.judge(1.2)) == "");
  CHECK(message(judge.judge(2)) == "rank 2 (gpu7:102): no space left");
}

}  // namespace
}  // namespace moeut
