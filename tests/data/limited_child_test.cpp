#include "data/limited_child.h"

#include <doctest/doctest.h>

#include <chrono>
#include <csignal>
#include <thread>
#include <vector>

#include "core/error.h"

namespace moeut {
namespace {

TEST_CASE("a child's result and its exception come back") {
  CHECK(run_in_limited_child("x", [] { return std::string(100000, 'y'); }) == std::string(100000, 'y'));
  CHECK(run_in_limited_child("x", [] { return std::string(); }).empty());
  CHECK_THROWS_WITH_AS(run_in_limited_child("x", []() -> std::string { throw IoError("why"); }), "why", IoError);
}

TEST_CASE("a child that crashes, hangs or eats memory is an error of the parent") {
  const auto crash = []() -> std::string {
    raise(SIGKILL);
    return "";
  };
  CHECK_THROWS_WITH_AS(run_in_limited_child("'f'", crash), doctest::Contains("'f' could not be read"), IoError);
  const auto sleep = [] {
    std::this_thread::sleep_for(std::chrono::seconds(60));
    return std::string();
  };
  CHECK_THROWS_WITH_AS(run_in_limited_child("'f'", sleep, {.wall_seconds = 1}), doctest::Contains("within 1 s"),
                       IoError);
  const auto spin = []() -> std::string {
    volatile int forever = 1;
    while (forever == 1) {
    }
    return "";
  };
  CHECK_THROWS_AS(run_in_limited_child("'f'", spin, {.cpu_seconds = 1, .wall_seconds = 30}), IoError);
}

}  // namespace
}  // namespace moeut
