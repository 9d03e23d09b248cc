#include "core/memory.h"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/tensor.h"

using namespace moeut;

// Sanitizers ask for these; without them they would end the program where malloc returns null.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1";
}
extern "C" const char* __tsan_default_options() {
  return "allocator_may_return_null=1";
}

namespace {
const Device kCpu = Device::cpu();
}

TEST_CASE("memory: blocks are aligned, writable and counted") {
  const MemoryStats before = memory_stats(kCpu);
  for (size_t bytes : {size_t{0}, size_t{1}, size_t{100}, size_t{4097}, size_t{1} << 20}) {
    void* p = allocate(kCpu, bytes);
    CHECK(reinterpret_cast<uintptr_t>(p) % 64 == 0);
    std::memset(p, 0xab, bytes);
    const MemoryStats held = memory_stats(kCpu);
    CHECK(held.in_use >= before.in_use + bytes);
    CHECK(held.in_use <=
          before.in_use + bytes + bytes / 8 + 256);  // at most an eighth, or the smallest block, is wasted
    CHECK(held.reserved >= held.in_use);
    release(kCpu, p, bytes);
    CHECK(memory_stats(kCpu).in_use == before.in_use);
  }
}

TEST_CASE("memory: a freed block is handed out again") {
  trim(kCpu);
  void* first = allocate(kCpu, 123456);
  release(kCpu, first, 123456);
  const size_t reserved = memory_stats(kCpu).reserved;
  void* second = allocate(kCpu, 123400);  // the same size class
  CHECK(second == first);
  CHECK(memory_stats(kCpu).reserved == reserved);
  release(kCpu, second, 123400);
}

TEST_CASE("memory: trim gives cached blocks back") {
  void* p = allocate(kCpu, 1 << 20);
  release(kCpu, p, 1 << 20);
  trim(kCpu);
  const MemoryStats stats = memory_stats(kCpu);
  CHECK(stats.reserved == stats.in_use);
}

TEST_CASE("memory: the peak is of what was in use at one time") {
  reset_peak(kCpu);
  const size_t start = memory_stats(kCpu).peak;
  CHECK(start == memory_stats(kCpu).in_use);
  void* a = allocate(kCpu, 1 << 16);
  release(kCpu, a, 1 << 16);
  void* b = allocate(kCpu, 1 << 16);
  CHECK(memory_stats(kCpu).peak == start + (1 << 16));
  void* c = allocate(kCpu, 1 << 16);
  CHECK(memory_stats(kCpu).peak == start + 2 * (1 << 16));
  release(kCpu, b, 1 << 16);
  release(kCpu, c, 1 << 16);
  CHECK(memory_stats(kCpu).peak == start + 2 * (1 << 16));
  reset_peak(kCpu);
  CHECK(memory_stats(kCpu).peak == start);
}

TEST_CASE("memory: too much is refused with the size and a cure") {
  const size_t bytes = size_t{1} << 60;
  try {
    allocate(kCpu, bytes);
    FAIL("an allocation of 2^60 bytes succeeded");
  } catch (const OutOfMemory& e) {
    const std::string message = e.what();
    CHECK(message.find("out of memory on cpu") != std::string::npos);
    CHECK(message.find("1099511627776 MiB") != std::string::npos);
    CHECK(message.find("train.micro_batch_size") != std::string::npos);
  }
}

TEST_CASE("memory: threads share the arena") {
  const size_t before = memory_stats(kCpu).in_use;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (size_t i = 1; i <= 300; ++i) {
        const size_t bytes = i * 64;
        auto* p = static_cast<unsigned char*>(allocate(kCpu, bytes));
        std::memset(p, t, bytes);
        for (size_t j = 0; j < bytes; ++j) {
          if (p[j] != t) std::abort();  // another thread holds the same block
        }
        release(kCpu, p, bytes);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(memory_stats(kCpu).in_use == before);
}

TEST_CASE("memory: meta counts like the CPU and has nothing") {
  reset_peak(Device::meta());
  const size_t before = memory_stats(Device::meta()).in_use;
  void* p = allocate(Device::meta(), size_t{1} << 45);  // more than any machine has
  CHECK(memory_stats(Device::meta()).in_use == before + (size_t{1} << 45));
  copy_bytes(Device::meta(), p, Device::meta(), p, 100);  // touches nothing
  zero_bytes(Device::meta(), p, 100);
  release(Device::meta(), p, size_t{1} << 45);
  CHECK(memory_stats(Device::meta()).in_use == before);
  CHECK(memory_stats(Device::meta()).peak == before + (size_t{1} << 45));
}

TEST_CASE("memory: copies and zeroes on the CPU") {
  int from[3] = {1, 2, 3}, to[3] = {};
  copy_bytes(kCpu, to, kCpu, from, sizeof from);
  CHECK(to[2] == 3);
  zero_bytes(kCpu, to, 2 * sizeof(int));
  CHECK(to[0] == 0);
  CHECK(to[1] == 0);
  CHECK(to[2] == 3);
}

TEST_CASE("memory: blocks that lie idle make room on a GPU for one of another size, and what cannot fit is refused") {
  if (cuda_device_count() == 0) return;
  const Device cuda = Device::cuda();
  trim(cuda);
  const size_t most = attainable_memory(cuda) - memory_stats(cuda).in_use;
  const size_t idle = most / 10 * 6, other = most / 10 * 7;  // not both at once
  release(cuda, allocate(cuda, idle), idle);
  void* p = nullptr;
  CHECK_NOTHROW(p = allocate(cuda, other));
  if (p != nullptr) release(cuda, p, other);
  CHECK_THROWS_WITH_AS(allocate(cuda, most + most / 2), doctest::Contains("out of memory on cuda:0"), OutOfMemory);
  const Tensor zeros = Tensor::zeros({4}, DType::f32, cuda);  // the refusal is nobody else's error
  CHECK(zeros.to_vector<float>() == std::vector<float>(4));
  trim(cuda);
}
