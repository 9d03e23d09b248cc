#include "core/tensor.h"

#include <doctest/doctest.h>

#include "core/memory.h"

using namespace moeut;

TEST_CASE("Tensor: values in, values out") {
  const Tensor t = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(t.defined());
  CHECK(t.dtype() == DType::f32);
  CHECK(t.bytes() == 24);
  CHECK(t.dense());
  CHECK(t.to_vector<float>() == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(t.str() == "f32 (2, 3) on cpu");
  CHECK(Tensor().str() == "undefined tensor");
  CHECK_FALSE(Tensor().defined());
}

TEST_CASE("Tensor: copies share, clones do not") {
  Tensor a = Tensor::zeros({4}, DType::f64);
  CHECK_FALSE(a.shared());
  const Tensor b = a;
  CHECK(a.shared());
  const Tensor c = a.clone();
  a.data<double>()[1] = 7;
  CHECK(b.data<double>()[1] == 7);
  CHECK(c.data<double>()[1] == 0);
  CHECK_FALSE(c.shared());
}

TEST_CASE("Tensor: the buffer goes back when the last tensor does") {
  const size_t before = memory_stats(Device::cpu()).in_use;
  {
    const Tensor a = Tensor::empty({1000}, DType::f32);
    const Tensor view = a.reshape({10, 100}).slice(2, 3);
    CHECK(memory_stats(Device::cpu()).in_use > before);
  }
  CHECK(memory_stats(Device::cpu()).in_use == before);
}

TEST_CASE("Tensor: reshape and slice share the elements") {
  const Tensor t = Tensor::from<int32_t>({0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {3, 2, 2});
  const Tensor flat = t.reshape({6, 2});
  CHECK(flat.data<int32_t>() == t.data<int32_t>());
  const Tensor part = t.slice(1, 2);
  CHECK(part.shape() == Shape{2, 2, 2});
  CHECK(part.to_vector<int32_t>() == std::vector<int32_t>{4, 5, 6, 7, 8, 9, 10, 11});
  CHECK(t.reshape({12}).slice(5, 2).to_vector<int32_t>() == std::vector<int32_t>{5, 6});
  CHECK(t.slice(3, 0).size() == 0);
  CHECK_THROWS_AS(t.slice(2, 2), ShapeError);
  CHECK_THROWS_AS(t.slice(-1, 1), ShapeError);
  CHECK_THROWS_WITH_AS(t.reshape({5}), "reshape: (3, 2, 2) has 12 elements, (5) has 5", ShapeError);
}

TEST_CASE("Tensor: pitched rows") {
  Tensor t = Tensor::empty({2, 3}, DType::f32, Device::cpu(), 4);
  CHECK_FALSE(t.dense());
  CHECK(t.row_stride() == 4);
  CHECK(t.bytes() == 24);  // the logical elements
  for (int i = 0; i < 8; ++i) t.data<float>()[i] = static_cast<float>(i);
  CHECK(t.slice(1, 1).data<float>()[0] == 4);
  CHECK(t.clone().data<float>()[6] == 6);
  CHECK_THROWS_AS(t.reshape({6}), ShapeError);
  CHECK(t.reshape({2, 1, 3}).row_stride() == 4);
  CHECK_THROWS_AS(Tensor::empty({2, 3}, DType::f32, Device::cpu(), 2), ShapeError);
  t.zero();
  CHECK(t.data<float>()[6] == 0);
}

TEST_CASE("Tensor: conversion between float and double only") {
  const Tensor t = Tensor::from<double>({0.1, 1e300, -2}, {3});
  const Tensor f = t.to(Device::cpu(), DType::f32);
  CHECK(f.to_vector<float>()[0] == 0.1f);
  CHECK(f.to(Device::cpu(), DType::f64).to_vector<double>()[2] == -2.0);
  CHECK_THROWS_WITH_AS(Tensor::zeros({1}, DType::i32).to(Device::cpu(), DType::f32),
                       "to: no conversion from i32 to f32 on cpu", ShapeError);
}

TEST_CASE("Tensor: wrong element types and sizes are named") {
  const Tensor t = Tensor::zeros({2}, DType::f32);
  CHECK_THROWS_WITH_AS(t.data<double>(), "tensor: f32 (2) on cpu was asked for as f64", ShapeError);
  CHECK(t.data<const float>()[0] == 0);
  CHECK_THROWS_AS(t.item(), ShapeError);
  CHECK(Tensor::from<float>({2.5}, {1}).item() == 2.5);
  CHECK(Tensor::from<double>({2.5}, {}).item() == 2.5);
  CHECK_THROWS_AS(Tensor::from<float>({1, 2}, {3}), ShapeError);
}

TEST_CASE("Tensor: copy_from") {
  Tensor a = Tensor::zeros({3}, DType::f32);
  a.copy_from(Tensor::from<float>({1, 2, 3}, {3}));
  CHECK(a.to_vector<float>() == std::vector<float>{1, 2, 3});
  CHECK_THROWS_AS(a.copy_from(Tensor::zeros({4}, DType::f32)), ShapeError);
  CHECK_THROWS_AS(a.copy_from(Tensor::zeros({3}, DType::f64)), ShapeError);
}

TEST_CASE("Tensor: a view of someone else's memory") {
  double memory[6] = {1, 2, 3, 4, 5, 6};
  const Tensor t = Tensor::view_of(memory, {2, 2}, DType::f64, Device::cpu(), 3);
  CHECK(t.data<double>()[3] == 4);
  CHECK_FALSE(t.shared());
}

TEST_CASE("Tensor: meta tensors have a size and no values") {
  const size_t before = memory_stats(Device::meta()).in_use;
  const Tensor t = Tensor::zeros({1 << 20, 1 << 20}, DType::f64, Device::meta());
  CHECK(memory_stats(Device::meta()).in_use >= before + (size_t{1} << 43));
  CHECK(t.slice(5, 7).shape() == Shape{7, 1 << 20});
  CHECK(Tensor::zeros({1}, DType::f32, Device::meta()).item() == 0);
}

TEST_CASE("Device: names") {
  CHECK(Device::parse("cpu") == Device::cpu());
  CHECK(Device::parse("meta").is_meta());
  CHECK(Device::cuda(1).str() == "cuda:1");
  CHECK_THROWS_WITH_AS(Device::parse("gpu"), "device: 'gpu' is none of auto, cpu, cuda, cuda:N", ConfigError);
  CHECK_THROWS_AS(Device::parse("cuda:"), ConfigError);
  CHECK_THROWS_AS(Device::parse("cuda:1x"), ConfigError);
  CHECK_THROWS_AS(Device::parse("cuda:-1"), Error);
}
