// What moeut-bench measures and prints.
#include "trainer/benchmark.h"

#include <doctest/doctest.h>

#include "core/check.h"
#include "trainer/benchmark_report.h"
#include "trainer/flops.h"
#include "trainer/random_tokens.h"

using namespace moeut;

namespace {

BenchmarkOptions small() {
  BenchmarkOptions options{.size = {.batch_size = 3, .micro_batch_size = 2, .seq_len = 16}, .steps = 3, .warmup = 1};
  options.model = {.n_tokens = 70,
                   .d_model = 32,
                   .n_layers = 4,
                   .n_heads = 2,
                   .ff_n_experts = 6,
                   .att_n_experts = 3,
                   .ff_k = 2,
                   .ff_expert_size = 16};
  return options;
}

const BenchmarkSubject kSubject{"a small one", "fp32"};

bool ordered(const Spread& s) {
  return s.min <= s.median && s.median <= s.max;
}

double number(const Json& json, std::initializer_list<const char*> path) {
  const Json* at = &json;
  for (const char* key : path) at = &at->at(key);
  return at->as_double();
}

}  // namespace

TEST_CASE("a spread is median, least and most") {
  const Spread odd = Spread::of({3, 1, 2}), even = Spread::of({4, 1, 2, 8});
  CHECK(odd.median == 2);
  CHECK(odd.min == 1);
  CHECK(odd.max == 3);
  CHECK(even.median == 3);
  CHECK(even.max == 8);
  CHECK_THROWS_AS(Spread::of({}), Error);
}

TEST_CASE("a benchmark measures its steps and reports each of them") {
  const BenchmarkOptions options = small();
  std::vector<int64_t> done;
  const Benchmark result = run_benchmark(options, [&](int64_t steps) { done.push_back(steps); });
  CHECK(done == std::vector<int64_t>{1, 2, 3, 4});
  CHECK(result.tokens == 48);
  CHECK(result.parameters == options.model.parameter_count());
  CHECK(ordered(result.step_seconds));
  CHECK(ordered(result.gemm_flops));
  CHECK(result.gemm_flops.min > 0);
  CHECK(result.tokens_per_second() == doctest::Approx(48 / result.step_seconds.median));
  CHECK(result.flops() == doctest::Approx(48 * train_flops_per_token(options.model, 16) / result.step_seconds.median));
  double phases_most = 0;
  for (const Spread& phase : result.phases) {
    CHECK(ordered(phase));
    phases_most += phase.max;
  }
  for (const Phase phase : {Phase::forward, Phase::backward, Phase::optimizer}) {
    CHECK(result.phases[static_cast<size_t>(phase)].min > 0);
  }
  CHECK(result.step_seconds.max <= phases_most * (1 + 1e-9));  // a step is its phases' sum
  CHECK(static_cast<double>(result.peak) == doctest::Approx(static_cast<double>(result.predicted.peak)).epsilon(0.15));
  CHECK(result.process_peak > result.peak);
  CHECK(result.first_loss > 3);  // untrained: about ln 70 = 4.2 or above
  CHECK(result.last_loss != result.first_loss);
}

TEST_CASE("the JSON report has every figure of the text") {
  const BenchmarkOptions options = small();
  const Benchmark result = run_benchmark(options);
  const Json json = Json::parse(benchmark_json(kSubject, options, result).dump(2));
  CHECK(json.at("model").as_string() == "a small one");
  CHECK(json.at("precision").as_string() == "fp32");
  CHECK(json.at("device").as_string() == "cpu");
  CHECK_FALSE(json.at("data").as_string().empty());
  CHECK_FALSE(json.at("machine").as_string().empty());
  CHECK(json.at("threads").as_int64() == result.threads);
  CHECK(number(json, {"tokens_per_s"}) == result.tokens_per_second());
  CHECK(number(json, {"flop_per_s"}) == result.flops());
  CHECK(number(json, {"step_ms", "median"}) == result.step_seconds.median * 1e3);
  CHECK(number(json, {"gemm", "flop_per_s", "median"}) == result.gemm_flops.median);
  CHECK(number(json, {"gemm", "size"}) == 2048);
  CHECK(number(json, {"gemm_share"}) == result.gemm_share());
  CHECK(number(json, {"memory", "peak_bytes"}) == static_cast<double>(result.peak));
  CHECK(number(json, {"memory", "predicted_peak_bytes"}) == static_cast<double>(result.predicted.peak));
  CHECK(number(json, {"memory", "process_peak_bytes"}) == static_cast<double>(result.process_peak));
  double shares = 0;
  for (const char* phase : {"data", "forward", "backward", "optimizer", "graph", "other"}) {
    CHECK(number(json, {"phases", phase, "ms", "min"}) >= 0);
    shares += number(json, {"phases", phase, "share"});
  }
  CHECK(shares == doctest::Approx(1));
}

TEST_CASE("the text report says what was measured and where the data come from") {
  const BenchmarkOptions options = small();
  const std::string text = benchmark_text(kSubject, options, run_benchmark(options));
  for (const char* part :
       {"a small one", "3 sequences of 16 tokens", "micro-batches of 2", "random tokens", "forward", "backward",
        "optimizer", "tokens/s", "GFLOP/s", "2048", "% of the GEMM rate", "predicted", "resident"}) {
    CAPTURE(part);
    CHECK(text.find(part) != std::string::npos);
  }
}

TEST_CASE("a dry run's report is the plan") {
  const BenchmarkOptions options = small();
  const MemoryPlan plan = plan_memory(options.model, options.modules, options.optimizer, options.size);
  const Json json = Json::parse(prediction_json(kSubject, options, plan).dump());
  CHECK(number(json, {"memory", "predicted_peak_bytes"}) == static_cast<double>(plan.peak));
  CHECK(json.find("step_ms") == nullptr);
  CHECK(prediction_text(kSubject, options, plan).find("predicted") != std::string::npos);
  CHECK_FALSE(json.at("cuda_graph").as_bool());
  CHECK(prediction_text(kSubject, options, plan).find("run again") == std::string::npos);
  CHECK_FALSE(json.at("recompute").as_bool());
}

TEST_CASE("a benchmark with recomputation takes the memory that was predicted, less than without, and says so") {
  BenchmarkOptions options = small();
  const size_t kept = plan_memory(options.model, options.modules, options.optimizer, options.size).peak;
  options.size.recompute = true;
  const Benchmark result = run_benchmark(options);
  CHECK(static_cast<double>(result.peak) == doctest::Approx(static_cast<double>(result.predicted.peak)).epsilon(0.15));
  CHECK(result.predicted.peak < kept);
  CHECK(benchmark_text(kSubject, options, result).find("layers run again in the backward pass") != std::string::npos);
  CHECK(benchmark_json(kSubject, options, result).at("recompute").as_bool());
}

TEST_CASE("random tokens fill the vocabulary, repeat with their seed, and go with their object") {
  std::filesystem::path folder;
  std::vector<int32_t> first(2001), second(2001), other(2001);
  {
    const RandomTokens data(50, 2001, 1);
    folder = data.dataset()->folder();
    CHECK(std::filesystem::exists(folder));
    CHECK(data.dataset()->tokens() == 2001);
    CHECK(data.dataset()->vocab_size() == 50);
    data.dataset()->read(0, 2001, first.data());
  }
  CHECK_FALSE(std::filesystem::exists(folder));
  RandomTokens(50, 2001, 1).dataset()->read(0, 2001, second.data());
  RandomTokens(50, 2001, 2).dataset()->read(0, 2001, other.data());
  CHECK(first == second);
  CHECK(first != other);
  std::vector<int> count(50);
  for (const int32_t id : first) ++count.at(static_cast<size_t>(id));
  for (const int n : count) CHECK(n > 10);  // 40 expected, standard deviation 6.3
}
