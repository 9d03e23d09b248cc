#include "core/stopwatch.h"

#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include "core/error.h"
#include "core/machine.h"
#include "core/memory.h"

using namespace moeut;

TEST_CASE("stopwatch: the time between start and stop, again after each start") {
  Stopwatch watch(Device::cpu());
  watch.start();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  watch.stop();
  const double slept = watch.seconds();
  CHECK(slept >= 0.020);
  CHECK(slept < 20);
  watch.start();
  watch.stop();
  CHECK(watch.seconds() < slept);
  CHECK_THROWS_WITH_AS(Stopwatch{Device::meta()}, "stopwatch: nothing runs on meta", BackendError);
}

TEST_CASE("stopwatch: on CUDA the device's work counts, whatever the host does meanwhile") {
  if (cuda_device_count() == 0) return;
  const Device cuda = Device::cuda();
  const size_t bytes = size_t{256} << 20;
  void* memory = allocate(cuda, bytes);
  Stopwatch one(cuda), many(cuda), rest(cuda);
  zero_bytes(cuda, memory, bytes);  // warm-up
  one.start();
  zero_bytes(cuda, memory, bytes);
  one.stop();
  many.start();
  for (int i = 0; i < 16; ++i) zero_bytes(cuda, memory, bytes);
  many.stop();
  rest.start();
  rest.stop();
  release(cuda, memory, bytes);
  CHECK(many.seconds() > 4 * one.seconds());
  CHECK(rest.seconds() < one.seconds());
  CHECK(one.seconds() > 1e-5);  // 256 MiB at 3 TB/s take 9e-5 s
}

TEST_CASE("machine: has a name") {
  CHECK_FALSE(machine_of(Device::cpu()).name.empty());
  if (cuda_device_count() == 0) return;
  CHECK_FALSE(machine_of(Device::cuda()).name.empty());
  CHECK(machine_of(Device::cuda()).cache_bytes > 1 << 20);
}
