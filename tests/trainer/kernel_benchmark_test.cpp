// Kernels by themselves: what they cost, how they are timed, and the reports.
#include <doctest/doctest.h>

#include <algorithm>

#include "core/error.h"
#include "trainer/benchmark/kernel_report.h"
#include "trainer/benchmark/kernel_subject.h"

using namespace moeut;

namespace {

/// B 3, T 5, so N 15; D 8, E 7, K 2, so R 30; S 4, H 2, P 3, V 11.
KernelShape small_shape(DType compute = DType::f32) {
  return {.model = {.n_tokens = 11,
                    .d_model = 8,
                    .n_layers = 2,
                    .n_heads = 2,
                    .ff_n_experts = 7,
                    .att_n_experts = 3,
                    .d_head = 3,
                    .ff_k = 2,
                    .ff_expert_size = 4},
          .batch = 3,
          .time = 5,
          .compute = compute,
          .gemm_size = 64,
          .copy_bytes = 1 << 16};
}

KernelBenchmarkOptions small(std::vector<std::string> kernels, DType compute = DType::f32) {
  return {.shape = small_shape(compute), .kernels = std::move(kernels), .runs = 3, .warmup = 1, .cold_bytes = 1 << 20};
}

constexpr double kPairFlops = 2.0 * 30 * 8 * 4;
constexpr double kWeights = 7 * 8 * 4;

const BenchmarkSubject kSubject{.model = "a small one", .precision = "fp32"};

}  // namespace

TEST_CASE("kernel costs are the formulas' values") {
  const auto expect = [](const KernelCost& cost, double flops, double bytes) {
    CHECK(cost.flops == flops);
    CHECK(cost.bytes == bytes);
  };
  const KernelShape s = small_shape(DType::bf16);  // w 2, W 4
  expect(cvmm_up_cost(s), kPairFlops, 2 * (15 * 8 + kWeights + 30 * 4) + 4 * 30);
  expect(cvmm_down_cost(s), kPairFlops, 2 * (30 * 4 + kWeights + 30 * 8));
  expect(cvmm_dhidden_cost(s), kPairFlops, 2 * (15 * 8 + kWeights + 3 * 30 * 4) + 4 * 2 * 30 + 4 * 30);
  expect(cvmm_dx_cost(s), kPairFlops, 2 * (30 * 4 + kWeights + 30 * 8));
  expect(cvmm_dweight_up_cost(s), kPairFlops, 2 * (15 * 8 + 30 * 4) + 4 * kWeights + 4 * 30);
  expect(cvmm_dweight_down_cost(s), kPairFlops, 2 * (30 * 4 + 15 * 8) + 4 * kWeights + 4 * 30);
  expect(combine_cost(s), 0, 2 * 30 * 8 + 4 * (30 + 15 * 8) + 4 * 30);
  expect(router_cost(s), 2.0 * 15 * 8 * 7, 2 * (15 * 8 + 8 * 7) + 4 * (15 * 7 + 30) + 4 * (3 * 30 + 8));
  expect(attention_cost(s), 2.0 * 15 * 2 * 3 * 6, 2 * 4 * 15 * 6 + 4 * 15 * 2);
  expect(attention_backward_cost(s), 5.0 * 15 * 2 * 3 * 6, 2 * 8 * 15 * 6 + 4 * 15 * 2);
  expect(cross_entropy_cost(s), 0, 2 * 2 * 15 * 11 + 4 * 2 * 15 + 4 * 15);
  expect(layer_norm_cost(s), 0, 4 * (3 * 15 * 8 + 4 * 15) + 2 * 2 * 15 * 8);
  expect(residual_norm_cost(s), 0, 4 * (6 * 15 * 8 + 4 * 15) + 2 * 4 * 15 * 8);
  expect(head_cost(s), 6.0 * 15 * 8 * 11, 2 * (2 * 15 * 8 + 11 * 8) + 4 * 11 * 8 + 4 * 15);
  expect(gemm_cost(s), 2.0 * 64 * 64 * 64, 2.0 * 3 * 64 * 64);
  expect(copy_cost(s), 0, 2.0 * 65536);
}

TEST_CASE("the expert layer costs what its kernels cost, a second combine and the sort") {
  const KernelShape s = small_shape();
  const KernelCost layer = expert_layer_cost(s);
  CHECK(layer.flops == 6 * kPairFlops);
  double parts = 0;
  for (const auto& cost : {cvmm_up_cost(s), cvmm_down_cost(s), combine_cost(s), cvmm_dhidden_cost(s), cvmm_dx_cost(s),
                           cvmm_dweight_up_cost(s), cvmm_dweight_down_cost(s)})
    parts += cost.bytes;
  CHECK(layer.bytes == parts + 4 * (30 * 8 + 15 * 8) + 4 * 30 + 4 * (3 * 30 + 8));
}

TEST_CASE("AdamW moves eight wide numbers a parameter, and writes the narrow copies of matrices") {
  const auto parameters = static_cast<double>(small_shape().model.parameter_count());
  CHECK(adamw_cost(small_shape(DType::f64)).bytes == 64 * parameters);
  CHECK(adamw_cost(small_shape(DType::f32)).bytes == 32 * parameters);
  const double vectors = 2 * 4 * 8 + 2 * 8 + 11;  // two norms of two layers, the last norm, the head's bias
  CHECK(adamw_cost(small_shape(DType::bf16)).bytes == 32 * parameters + 2 * (parameters - vectors));
}

TEST_CASE("every kernel is measured in every precision, with sets of operands in turn") {
  for (const DType compute : {DType::f32, DType::f64, DType::bf16}) {
    CAPTURE(name_of(compute));
    std::vector<std::string> heard;
    const KernelBenchmark result =
        run_kernel_benchmark(small({"all"}, compute), [&](const std::string& name) { heard.push_back(name); });
    CHECK(result.copy.byte_rate() > 0);
    CHECK(result.gemm.flop_rate() > 0);
    std::vector<std::string> names;
    for (const KernelTiming& k : result.kernels) {
      CAPTURE(k.name);
      names.push_back(k.name);
      CHECK(std::count(heard.begin(), heard.end(), k.name) == 1);
      CHECK(k.seconds.min > 0);
      CHECK(k.seconds.min <= k.seconds.median);
      CHECK(k.seconds.median <= k.seconds.max);
      CHECK(k.sets == 4);  // a set for each run: tiny operands never add up to the megabyte
      CHECK(k.set_bytes > 0);
      CHECK(result.share(k) == doctest::Approx(result.floor_seconds(k) / k.seconds.median));
    }
    CHECK(names == kernel_names());
    CHECK(result.share(result.copy) == doctest::Approx(1));
    // Its own rate is one of the two ceilings; which of them is the lower for so small a product is the machine's
    // affair.
    CHECK(result.share(result.gemm) > 1 - 1e-12);
  }
}

TEST_CASE("operands rotate until so many bytes lie between two uses, or are one set that is far larger") {
  KernelBenchmarkOptions options = small({"copy"});
  options.runs = 20;
  options.cold_bytes = 3 << 17;  // three times the source and destination of a copy
  CHECK(run_kernel_benchmark(options).copy.sets == 4);
  options.cold_bytes = 1 << 14;  // a copy's are eight times as much
  CHECK(run_kernel_benchmark(options).copy.sets == 1);
  CHECK(cold_bytes_of(50 << 20) == size_t{256} << 20);
  CHECK(cold_bytes_of(size_t{300} << 20) == size_t{600} << 20);
}

TEST_CASE("the roofline is the larger of the times for memory and for products") {
  KernelBenchmark b;
  b.copy = {.name = "copy", .cost = {0, 100}, .seconds = {1, 1, 1}};
  b.gemm = {.name = "gemm", .cost = {1000, 1}, .seconds = {1, 1, 1}};
  const KernelTiming memory{.name = "m", .cost = {1000, 200}, .seconds = {4, 4, 4}};
  const KernelTiming compute{.name = "c", .cost = {3000, 200}, .seconds = {4, 4, 4}};
  CHECK(b.floor_seconds(memory) == doctest::Approx(2));
  CHECK(b.memory_bound(memory));
  CHECK(b.share(memory) == doctest::Approx(0.5));
  CHECK(b.floor_seconds(compute) == doctest::Approx(3));
  CHECK_FALSE(b.memory_bound(compute));
  CHECK(b.share(compute) == doctest::Approx(0.75));
}

TEST_CASE("a name that is no kernel's is refused with those that are") {
  CHECK_THROWS_WITH_AS(run_kernel_benchmark(small({"cvmm-up", "cvmm"})),
                       doctest::Contains("--kernel: 'cvmm' is none of all, expert-layer, cvmm-up,"), ConfigError);
}

TEST_CASE("both reports have every figure of a kernel") {
  const KernelBenchmarkOptions options = small({"cvmm-up", "adamw"});
  const KernelBenchmark result = run_kernel_benchmark(options);
  const Json json = Json::parse(kernel_json(kSubject, options, result).dump(2));
  CHECK(json.at("model").as_string() == "a small one");
  CHECK(json.at("copy").at("bytes_per_s").as_double() == result.copy.byte_rate());
  CHECK(json.at("gemm").at("flop_per_s").as_double() == result.gemm.flop_rate());
  REQUIRE(json.at("kernels").as_array().size() == 2);
  const Json& up = json.at("kernels").as_array()[0];
  CHECK(up.at("name").as_string() == "cvmm-up");
  CHECK(up.at("ms").at("median").as_double() == result.kernels[0].seconds.median * 1e3);
  CHECK(up.at("flop").as_double() == cvmm_up_cost(options.shape).flops);
  CHECK(up.at("bytes").as_double() == cvmm_up_cost(options.shape).bytes);
  CHECK(up.at("roofline_share").as_double() == result.share(result.kernels[0]));
  CHECK(up.at("operand_sets").as_int64() == result.kernels[0].sets);
  const std::string text = kernel_text(kSubject, options, result);
  for (const char* part : {"a small one", "3 sequences of 5 tokens", "7 experts of 4, 2 a token", "TB/s", "64³",
                           "median of 3", "cvmm-up", "adamw", "memory", "%", "4 x"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}
