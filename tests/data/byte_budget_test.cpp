#include "data/byte_budget.h"

#include <doctest/doctest.h>

#include <atomic>
#include <thread>
#include <vector>

namespace moeut {
namespace {

TEST_CASE("a byte budget: what is under way never passes it, and what is larger than all goes alone") {
  constexpr uint64_t kBudget = 100;
  ByteBudget budget(kBudget);
  std::atomic<uint64_t> bytes{0}, holders{0}, largest_sum{0};
  std::atomic<int> alone{0};
  {
    std::vector<std::jthread> threads;
    for (uint64_t t = 0; t < 8; ++t)
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < 200; ++i) {
          const uint64_t size = 1 + (i * 37 + t * 11) % 130;  // some are larger than all
          const auto share = budget.take(size);
          const uint64_t others = holders.fetch_add(1), sum = bytes.fetch_add(std::min(size, kBudget)) + size;
          if (size > kBudget) {
            CHECK(others == 0);
            ++alone;
          } else if (uint64_t seen = largest_sum; sum > seen) {
            while (sum > seen && !largest_sum.compare_exchange_weak(seen, sum)) {
            }
          }
          std::this_thread::yield();
          bytes -= std::min(size, kBudget);
          --holders;
        }
      });
  }
  CHECK(largest_sum <= kBudget);
  CHECK(alone > 100);
  CHECK(holders == 0);
}

TEST_CASE("a byte budget: a large request is not passed by later small ones") {
  ByteBudget budget(10);
  std::atomic<bool> large_served{false}, small_served{false};
  std::jthread large, small;
  const auto wait_for = [&](uint64_t waiting) {
    while (budget.waiting() != waiting) std::this_thread::yield();
  };
  {
    const auto first = budget.take(5);
    large = std::jthread([&] {
      const auto share = budget.take(10);
      CHECK_FALSE(small_served);
      large_served = true;
    });
    wait_for(1);
    small = std::jthread([&] {
      const auto share = budget.take(1);
      CHECK(large_served);
      small_served = true;
    });
    wait_for(2);  // though 5 bytes are free
  }
  large.join();
  small.join();
  CHECK(small_served);
  CHECK(budget.waiting() == 0);
}

}  // namespace
}  // namespace moeut
