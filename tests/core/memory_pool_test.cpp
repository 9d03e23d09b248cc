#include "core/memory_pool.h"

#include <doctest/doctest.h>

#include <cstring>
#include <thread>

#include "core/error.h"
#include "core/memory.h"
#include "core/tensor.h"

using namespace moeut;

namespace {
constexpr size_t kMiB = size_t{1} << 20;
const Device kCpu = Device::cpu();
}  // namespace

TEST_CASE("memory pool: in its scope memory comes from it, and goes back to it from anywhere") {
  MemoryPool pool(kCpu, kMiB);
  void* outside = allocate(kCpu, 1000);
  CHECK(pool.in_use() == 0);
  void* inside = nullptr;
  {
    const MemoryPool::Scope scope(&pool);
    inside = allocate(kCpu, 1000);
    std::memset(inside, 1, 1000);
    CHECK(pool.in_use() == 1024);  // in pieces of 256
    CHECK(MemoryPool::owner(kCpu, inside) == &pool);
    release(kCpu, outside, 1000);  // to the arena
    CHECK(pool.in_use() == 1024);
    const MemoryPool::Scope same(nullptr);
    CHECK(MemoryPool::current(kCpu) == &pool);
    CHECK(MemoryPool::current(Device::meta()) == nullptr);
    std::thread([&] { CHECK(MemoryPool::current(kCpu) == nullptr); }).join();
  }
  CHECK(MemoryPool::current(kCpu) == nullptr);
  release(kCpu, inside, 1000);
  CHECK(pool.in_use() == 0);
  CHECK(MemoryPool::owner(kCpu, &pool) == nullptr);
}

TEST_CASE("memory pool: nobody else gets its blocks, free or not") {
  MemoryPool pool(kCpu, 4096);
  {
    const MemoryPool::Scope scope(&pool);
    release(kCpu, allocate(kCpu, 4096), 4096);
  }
  void* other = allocate(kCpu, 4096);
  CHECK(MemoryPool::owner(kCpu, other) == nullptr);
  release(kCpu, other, 4096);
}

TEST_CASE("memory pool: the smallest hole that fits is taken, and neighbours become one") {
  MemoryPool pool(kCpu, 10 * 256);
  char* blocks[10];
  for (char*& block : blocks) block = static_cast<char*>(pool.allocate(256));
  CHECK(pool.size() == 10 * 256);
  for (const int i : {1, 3, 2, 5, 8, 9}) pool.release(blocks[i], 256);  // holes of 3, 1 and 2
  CHECK(pool.allocate(512) == blocks[8]);
  CHECK(pool.allocate(1) == blocks[5]);
  CHECK(pool.allocate(768) == blocks[1]);
  CHECK(pool.in_use() == 10 * 256);
  CHECK(pool.size() == 10 * 256);
  pool.release(blocks[1], 768);
  for (const int i : {0, 4, 6, 7, 5}) pool.release(blocks[i], 256);
  pool.release(blocks[8], 512);
  CHECK(pool.allocate(10 * 256) == blocks[0]);
  pool.release(blocks[0], 10 * 256);
}

TEST_CASE("memory pool: the arena's counters know it by its segments, and it grows where it is too small") {
  const MemoryStats before = memory_stats(kCpu);
  {
    MemoryPool pool(kCpu, 3 * kMiB);
    CHECK(memory_stats(kCpu).in_use == before.in_use + 3 * kMiB);
    const MemoryPool::Scope scope(&pool);
    {
      const Tensor fits = Tensor::zeros({static_cast<int64_t>(2 * kMiB)}, DType::u8);
      CHECK(memory_stats(kCpu).in_use == before.in_use + 3 * kMiB);
      const Tensor more = Tensor::zeros({static_cast<int64_t>(2 * kMiB)}, DType::u8);
      CHECK(pool.in_use() == 4 * kMiB);
    }
    CHECK(pool.size() == 35 * kMiB);
    CHECK(memory_stats(kCpu).in_use == before.in_use + pool.size());
    CHECK(memory_stats(kCpu).peak >= before.in_use + pool.size());
  }
  CHECK(memory_stats(kCpu).in_use == before.in_use);
}

TEST_CASE("memory pool: errors") {
  CHECK_THROWS_WITH_AS(MemoryPool(Device::meta(), 1), "memory pool: meta has no memory", BackendError);
  CHECK_THROWS_WITH_AS(MemoryPool(kCpu, size_t{1} << 60), doctest::Contains("out of memory on cpu"), BackendError);
}
