// The building blocks of the expert ops by themselves.
#include "autograd/ops/experts.h"

#include "tests/ops/expert_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// Three tokens, two pairs each, of three experts; every gate 1/2. Sorted: pairs 1 4 | 0 3 5 | 2.
ops::Routing routing() {
  Tape tape;
  return half_gated(tape, {1, 0, 2, 1, 0, 1}, {1, 3, 3}, 1, 2);
}

const Tensor kWeight = f64({1, 2, 10, 20, 100, 200}, {3, 1, 2});

}  // namespace

TEST_CASE("experts: cvmm reads rows sorted, gathered or gated, and transposes") {
  const ops::Routing r = routing();
  const Tensor tokens = f64({1, 2, 3}, {3, 1});
  // Sorted places hold tokens 0 2 | 0 1 2 | 1.
  CHECK(elements(ops::cvmm(r, {tokens, 2}, kWeight)) ==
        std::vector<double>{1, 2, 3, 6, 10, 20, 20, 40, 30, 60, 200, 400});
  CHECK(elements(ops::cvmm(r, {tokens, 2, r.gate.value()}, kWeight)) ==
        std::vector<double>{0.5, 1, 1.5, 3, 5, 10, 10, 20, 15, 30, 100, 200});
  const Tensor sorted = f64({1, 1, 1, 2, 1, 0, -1, 0, 0, 1, 1, -1}, {6, 2});
  CHECK(elements(ops::cvmm(r, {sorted}, kWeight, true)) == std::vector<double>{3, 5, 10, -10, 20, -100});
  CHECK(elements(ops::cvmm(r, {sorted}, kWeight, true, true)) == std::vector<double>{3, 5, 10, 0, 20, 0});
}

TEST_CASE("experts: combine sums a group's pairs, with or without gates, onto what is there if asked") {
  const ops::Routing r = routing();
  const Tensor y = f64({1, 2, 4, 8, 16, 32}, {6, 1});  // by sorted place: pairs 1 4 0 3 5 2
  const Tensor out = Tensor::zeros({3, 1}, DType::f64);
  ops::combine(r, 2, y, {}, out);
  CHECK(elements(out) == std::vector<double>{5, 40, 18});
  ops::combine(r, 2, y, r.gate.value(), out, Mode::accumulate);
  CHECK(elements(out) == std::vector<double>{7.5, 60, 27});
  const Tensor all = Tensor::zeros({1, 1}, DType::f64);
  ops::combine(r, 6, y, {}, all);
  CHECK(elements(all) == std::vector<double>{63});
}

TEST_CASE("experts: a plain weight's gradient is there at once, a parameter's after its last use") {
  const ops::Routing r = routing();
  const Tensor tokens = f64({1, 2, 3}, {3, 1}), dy = f64({1, 1, 1, 2, 0, 1}, {3, 2});
  // dW[e] = Σ token · dy over its pairs: expert 0 has tokens 0 and 2, expert 1 all, expert 2 token 1.
  const std::vector<double> once = {1, 4, 3, 8, 2, 4};
  const auto use = [&](Tape& tape, const Variable& weight) {
    return tape.record(f64({0}, {1}), {weight}, [&](const Tensor&, InputGradients& in) {
      ops::contribute_weight_gradient(r, {tokens, 2}, {dy, 2}, in, 0);
    });
  };
  const Tensor one = f64({1}, {1});
  Tape plain;
  const Variable leaf = plain.leaf(kWeight);
  plain.backward_from({{use(plain, leaf), one}});
  CHECK(elements(leaf.gradient()) == once);

  Parameter parameter{.name = "w", .value = kWeight};
  Tape tape;
  std::vector<std::pair<Variable, Tensor>> seeds;
  bool waited = false;  // recorded first, so its backward runs last
  seeds.emplace_back(tape.record(f64({0}, {1}), {tape.parameter(parameter)},
                                 [&](const Tensor&, InputGradients&) { waited = !parameter.has_gradient; }),
                     one);
  for (int repeat = 0; repeat < 2; ++repeat) seeds.emplace_back(use(tape, tape.parameter(parameter)), one);
  tape.backward_from(seeds);
  CHECK(waited);
  CHECK(elements(parameter.gradient) == std::vector<double>{2, 8, 6, 16, 4, 8});
}
