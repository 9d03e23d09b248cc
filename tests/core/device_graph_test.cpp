#include "core/device_graph.h"

#include <doctest/doctest.h>

#include <stdexcept>

#include "core/error.h"
#include "core/memory.h"
#include "core/tensor.h"

using namespace moeut;

TEST_CASE("device graph: the CPU's work is not recorded") {
  CHECK_THROWS_WITH_AS(DeviceGraph(Device::cpu(), [] {}),
                       "graph: work on cpu cannot be recorded, only that of CUDA devices", BackendError);
}

TEST_CASE("device graph: nothing runs while it is recorded, and each run reads memory anew") {
  if (cuda_device_count() == 0) return;
  const Device cuda = Device::cuda();
  Tensor from = Tensor::from<float>({1, 2}, {2}, cuda), to = Tensor::zeros({2}, DType::f32, cuda);
  DeviceGraph graph(cuda, [&] { to.copy_from(from); });
  CHECK(to.to_vector<float>() == std::vector<float>{0, 0});
  graph.repeat();
  CHECK(to.to_vector<float>() == std::vector<float>{1, 2});
  from.copy_from(Tensor::from<float>({3, 4}, {2}));
  graph.repeat();
  CHECK(to.to_vector<float>() == std::vector<float>{3, 4});
}

TEST_CASE("device graph: what needs the host is refused, and the device works on") {
  if (cuda_device_count() == 0) return;
  const Device cuda = Device::cuda();
  Tensor x = Tensor::from<float>({1}, {1}, cuda);
  CHECK_THROWS_WITH_AS(DeviceGraph(cuda, [&] { x.copy_from(Tensor::from<float>({2}, {1})); }),
                       doctest::Contains("4 bytes from cpu to cuda:0 while a graph is recorded"), BackendError);
  CHECK_THROWS_AS(DeviceGraph(cuda, [&] { x.to(Device::cpu()); }), BackendError);
  CHECK_THROWS_AS(DeviceGraph(cuda, [&] { synchronize(cuda); }), BackendError);
  CHECK_THROWS_AS(DeviceGraph(cuda, [] { throw std::runtime_error("on the way"); }), std::runtime_error);
  CHECK(x.to_vector<float>() == std::vector<float>{1});
}
