// Attention in shapes that cuDNN's fused kernels compute, where there are a GPU and a cuDNN for it; elsewhere the same
// calls are computed by the project's own kernels, and must give the same.
#include "kernels/cuda/attention_fused.h"

#include "autograd/ops/attention.h"
#include "kernels/dispatch.h"
#include "tests/ops/device_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

struct Sizes {
  int64_t batch, heads, length, head_dim;
  bool causal = true;
};

std::vector<Tensor> inputs(const Sizes& s) {
  const Shape shape{s.batch, s.length, s.heads * s.head_dim};
  const double scale = std::pow(static_cast<double>(s.head_dim), -0.25);  // scores of a standard deviation of 1
  return {random_tensor(shape, 1, scale), random_tensor(shape, 2, scale), random_tensor(shape, 3)};
}

Op attention_of(const Sizes& s) {
  return [s](Tape& tape, const std::vector<Variable>& x) {
    return ops::attention(tape, x[0], x[1], x[2], s.heads, {.causal = s.causal});
  };
}

std::vector<Tensor> on_cuda(const std::vector<Tensor>& x, DType type) {
  std::vector<Tensor> there;
  for (const Tensor& t : x) there.push_back(t.to(Device::cpu(), type).to(Device::cuda()));
  return there;
}

kernels::AttentionShape shape_of(const Sizes& s) {
  const int64_t width = s.heads * s.head_dim;
  return {s.batch, s.heads, s.length, s.length, s.head_dim, width, width * s.length, width, width * s.length};
}

}  // namespace

TEST_CASE("attention, fused: CUDA against the CPU, used twice; the same bits when run again") {
  if (cuda_device_count() == 0) return;
  // Lengths that fill tiles and that do not; rows of heads of 16 bytes, of 4 and of 2; both sides of 128 dims.
  for (const Sizes& s :
       {Sizes{2, 2, 128, 64}, Sizes{2, 2, 256, 128}, Sizes{2, 2, 256, 82}, Sizes{1, 2, 150, 96},
        Sizes{2, 2, 200, 64, false}, Sizes{2, 2, 128, 82, false}, Sizes{1, 3, 135, 45}, Sizes{1, 2, 128, 136}}) {
    CAPTURE(shape_of(s).q_len);
    CAPTURE(s.head_dim);
    const std::vector<Tensor> x = inputs(s);
    const DeviceCase twice{"attention",
                           [&](Tape& t, const std::vector<Variable>& v, DType) { return attention_of(s)(t, v); },
                           {{x[0]}, {x[1]}, {x[2]}}};
    for (const DType type : {DType::bf16, DType::f16}) {
      CAPTURE(name_of(type));
      expect_agrees(run_on(twice, type, Device::cuda()), run_on(twice, type, Device::cpu()), type);
      const std::vector<Tensor> there = on_cuda(x, type);
      expect_same_bits(value_and_gradients(attention_of(s), there), value_and_gradients(attention_of(s), there));
    }
  }
}

TEST_CASE("attention, fused: a batch gives what its sequences give, however it is divided") {
  if (cuda_device_count() == 0) return;
  constexpr DType kType = DType::bf16;
  for (const int64_t head_dim : {16, 10}) {
    const Sizes all{.batch = 7, .heads = 16, .length = 2048, .head_dim = head_dim};  // gradients of 4 and of 3
    const std::vector<Tensor> x = on_cuda(inputs(all), kType);
    const std::vector<Tensor> whole = value_and_gradients(attention_of(all), x);
    const Tensor seed = upstream(Variable(whole[0]), 0);
    for (const int64_t b : {0, 3, 4, 6}) {
      Tape tape;
      std::vector<Variable> one;
      for (const Tensor& t : x) one.push_back(tape.leaf(t.slice(b, 1).clone()));
      const Variable y = attention_of(all)(tape, one);
      tape.backward_from({{y, seed.slice(b, 1).clone()}});
      CAPTURE(b);
      CHECK(relative_l2(y.value().to(Device::cpu()), whole[0].slice(b, 1).to(Device::cpu())) <= spacing_of(kType));
      for (size_t i = 0; i < 3; ++i)
        CHECK(relative_l2(one[i].gradient().to(Device::cpu()), whole[i + 1].slice(b, 1).to(Device::cpu())) <=
              spacing_of(kType));
    }
  }
}

TEST_CASE("attention, fused: which calls are, and how much memory they take") {
  if constexpr (kWithCuda) {
    if (cuda_device_count() == 0) return;
    const auto bytes = [](const Sizes& s, const kernels::AttentionMask& mask = {.causal = true}) {
      return kernels::cuda::fused_backward_bytes<BFloat16>(shape_of(s), mask);
    };
    const Sizes training{.batch = 32, .heads = 4, .length = 1024, .head_dim = 128};
    if (bytes(training) == 0) {
      MESSAGE("skipped: no cuDNN, or none for this device");
      return;
    }
    CHECK(bytes({64, 4, 1024, 82}) > 0);
    CHECK(bytes({1, 4, 127, 128}) == 0);
    CHECK(bytes({1, 4, 128, 264}) == 0);
    CHECK(bytes({1, 4, 16384, 64}) == 0);  // 2 GiB of scores
    const uint8_t removed[1] = {};
    CHECK(bytes(training, {.position = removed}) == 0);
    CHECK(bytes(training, {.causal = true, .keys = removed}) == 0);
    kernels::AttentionShape decoding = shape_of(training);
    decoding.q_len = 1;
    CHECK(kernels::cuda::fused_forward_bytes<BFloat16>(decoding, {.causal = true}) == 0);
    CHECK(kernels::cuda::fused_forward_bytes<BFloat16>(shape_of({1, 4, 16384, 64}), {.causal = true}) > 0);
    CHECK(bytes({1024, 4, 1024, 128}) < size_t{520} << 20);
  }
}
