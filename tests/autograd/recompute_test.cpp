// A region that is run again gives what the same operations give without one.
#include "autograd/recompute.h"

#include "autograd/ops/add.h"
#include "autograd/ops/linear.h"
#include "core/memory.h"
#include "tests/testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr int64_t kRows = 5, kWidth = 3;

Parameter matrix(uint64_t stream) {
  return {.name = "w" + std::to_string(stream), .value = random_tensor({kWidth, kWidth}, stream)};
}

/// Two outputs, y = x + x Wᵀ and z = y Wᵀ; W is used twice.
std::vector<Variable> two_outputs(Tape& tape, const Variable& x, Parameter& w) {
  const Variable y = ops::add(tape, x, ops::linear(tape, x, tape.parameter(w)));
  return {y, ops::linear(tape, y, tape.parameter(w))};
}

std::vector<Variable> as_region(Tape& tape, const Variable& x, Parameter& w) {
  Tape off(Tape::Recording::off);
  std::vector<Tensor> values;
  for (const Variable& y : two_outputs(off, Variable(x.value()), w)) values.push_back(y.value());
  return record_region(tape, values, x, {&w}, [&w](Tape& t, const Variable& v) { return two_outputs(t, v, w); });
}

using Computation = std::vector<Variable> (*)(Tape&, const Variable&, Parameter&);

/// Two in a row, the second on the first's y; gradients come into those outputs that `seeded` names.
struct Chain {
  std::vector<Tensor> results;  ///< values and gradients
  std::vector<std::string> finished;

  Chain(Computation compute, const std::vector<int>& seeded) {
    Parameter w = matrix(1);
    Tape tape;
    tape.on_final_gradient = [&](Parameter& p) { finished.push_back(p.name); };
    const Variable x = tape.leaf(random_tensor({kRows, kWidth}, 2));
    const std::vector<Variable> first = compute(tape, x, w), second = compute(tape, first[0], w);
    const Variable outputs[] = {first[1], second[0], second[1]};
    for (const Variable& y : outputs) results.push_back(y.value());
    std::vector<std::pair<Variable, Tensor>> seeds;
    for (const int i : seeded)
      seeds.emplace_back(outputs[i], random_tensor({kRows, kWidth}, 10 + static_cast<uint64_t>(i)));
    tape.backward_from(std::move(seeds));
    results.push_back(x.gradient());
    results.push_back(w.gradient);
  }
};

}  // namespace

TEST_CASE("recompute: values, gradients and the end of a parameter are those without a region") {
  for (const std::vector<int>& seeded : {std::vector<int>{1}, {2}, {0}, {0, 1}, {0, 1, 2}}) {
    const Chain plain(two_outputs, seeded), regions(as_region, seeded);
    expect_same_bits(regions.results, plain.results);
    CHECK(regions.finished == std::vector<std::string>{"w1"});
  }
}

TEST_CASE("recompute: of the way to the outputs only the input is kept") {
  constexpr int64_t kElements = 1 << 16;
  constexpr size_t kBytes = kElements * sizeof(double);
  Tape tape;
  const Variable x = tape.leaf(Tensor::zeros({kElements}, DType::f64));
  const size_t before = memory_stats(Device::cpu()).in_use;
  int runs = 0;
  size_t most = 0;
  const Region region = [&](Tape& t, const Variable& v) {
    ++runs;
    Variable y = v;
    for (int i = 0; i < 8; ++i) {
      const Tensor saved = Tensor::zeros({kElements}, DType::f64);
      y = t.record(Tensor::zeros({1}, DType::f64), {y}, [saved](const Tensor&, InputGradients& in) {
        const GradientTarget d = in.target(0);
        std::fill_n(d.tensor.data<double>(), d.tensor.size(), 1.0);
      });
    }
    most = memory_stats(Device::cpu()).in_use;
    return std::vector<Variable>{y};
  };
  const Variable y = record_region(tape, {Tensor::zeros({1}, DType::f64)}, x, {}, region).front();
  CHECK(runs == 0);  // the value was given
  CHECK(memory_stats(Device::cpu()).in_use - before < kBytes / 2);
  tape.backward({{y}});
  CHECK(runs == 1);
  CHECK(most - before >= 8 * kBytes);
  CHECK(memory_stats(Device::cpu()).in_use - before < 2 * kBytes);  // x's gradient
  CHECK(x.gradient().to_vector<double>() == std::vector<double>(kElements, 1.0));
}

TEST_CASE("recompute: a constant input has no gradient, and without any the region is dropped") {
  Parameter w = matrix(1);
  const Variable x(random_tensor({kRows, kWidth}, 2));
  const auto token = std::make_shared<int>(0);
  const Region region = [&w, token](Tape& t, const Variable& v) { return two_outputs(t, v, w); };
  const std::vector<Tensor> values = {x.value(), x.value()};
  {
    Tape tape;
    const auto y = as_region(tape, x, w);
    tape.backward_from({{y[0], random_tensor({kRows, kWidth}, 3)}});
    CHECK(w.has_gradient);
  }
  w.trainable = false;
  const long held = token.use_count();
  Tape tape, off(Tape::Recording::off);
  CHECK_FALSE(record_region(tape, values, x, {&w}, region)[0].needs_gradient());
  w.trainable = true;
  CHECK_FALSE(record_region(off, values, x, {&w}, region)[1].needs_gradient());
  CHECK(token.use_count() == held);
}

TEST_CASE("recompute: deferred gradients wait for the last use within the region") {
  struct Sum : DeferredGradient {
    double total = 0;
    std::vector<double>* sums;
    void run(const GradientTarget& target) override {
      sums->push_back(total);
      double& g = target.tensor.data<double>()[0];
      g = (target.mode == Mode::accumulate ? g : 0) + total;
    }
  };
  std::vector<double> sums;
  Parameter p{.name = "p", .value = f64({1}, {1})};
  const Region twice = [&](Tape& t, const Variable& v) {
    Variable y = v;
    for (const double part : {1, 10}) {
      y = t.record(f64({1}, {1}), {y, t.parameter(p)}, [&sums, part](const Tensor& dy, InputGradients& in) {
        in.contribute(0, dy);
        Sum& sum = in.deferred<Sum>(1);
        sum.total += part;
        sum.sums = &sums;
      });
    }
    return std::vector<Variable>{y};
  };
  Tape tape;
  Variable y = tape.leaf(f64({1}, {1}));
  for (int region = 0; region < 3; ++region) y = record_region(tape, {f64({1}, {1})}, y, {&p}, twice).front();
  tape.backward({{y}});
  CHECK(sums == std::vector<double>{11, 11, 11});
  CHECK(p.gradient.item() == 33);
}

TEST_CASE("recompute: errors") {
  Tape tape;
  const Variable x = tape.leaf(f64({1}, {1}));
  const Region one = [](Tape&, const Variable& v) { return std::vector<Variable>{v}; };
  const auto y = record_region(tape, {x.value(), x.value()}, x, {}, one);
  CHECK_THROWS_WITH_AS(tape.backward({{y[1]}}), "recompute: the region gave 2 outputs at first, then 1", ShapeError);
}
