#include "autograd/ops/route.h"

#include <numeric>

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

ops::Routing routed(const Tensor& logits, const ops::RouteOptions& options) {
  Tape tape;
  return ops::route(tape, Variable(logits), options);
}

std::vector<int32_t> experts_of(const Tensor& logits, const ops::RouteOptions& options) {
  return routed(logits, options).expert.to_vector<int32_t>();
}

double sigmoid(double x) {
  return 1 / (1 + std::exp(-x));
}

Op gates(const ops::RouteOptions& options) {
  return [options](Tape& tape, const std::vector<Variable>& x) {
    ops::RouteOptions there = options;
    if (there.source.state.defined()) there.source.state = there.source.state.to(x[0].device());
    if (there.forced.defined()) there.forced = there.forced.to(x[0].device());
    return ops::route(tape, x[0], there).gate;
  };
}

ops::DropoutSource source(uint64_t seed, uint64_t first_sample, uint64_t site) {
  return {Tensor::from<uint64_t>({seed, first_sample}, {2}), site};
}

}  // namespace

TEST_CASE("route: values") {
  // Row 0 prefers expert 2, then 0; row 1 has a tie of 0 and 1, which the lower index wins.
  const Tensor logits = f64({1, -1, 2, 0.5, 0.5, 0}, {1, 2, 3});
  const ops::Routing r = routed(logits, {.k = 2});
  CHECK(r.expert.to_vector<int32_t>() == std::vector<int32_t>{2, 0, 0, 1});
  expect_close(r.gate.value(), {sigmoid(2), sigmoid(1), sigmoid(0.5), sigmoid(0.5)});
  // Pairs 0..3 go to experts 2, 0, 0, 1: sorted, and stable among equals, that is 1, 2, 3, 0.
  CHECK(r.order.to_vector<int32_t>() == std::vector<int32_t>{1, 2, 3, 0});
  CHECK(r.place.to_vector<int32_t>() == std::vector<int32_t>{3, 0, 1, 2});
  CHECK(r.offsets.to_vector<int32_t>() == std::vector<int32_t>{0, 2, 3, 4});
  CHECK(r.rows() == 2);
  CHECK(r.pairs() == 4);
  CHECK(r.experts() == 3);
}

TEST_CASE("route: experts of several heads are numbered through") {
  const Tensor logits = f64({0, 9, 9, 0, 9, 0, 0, 9}, {1, 2, 4});  // two tokens, two heads of two experts
  CHECK(experts_of(logits, {.heads = 2, .k = 1}) == std::vector<int32_t>{1, 2, 0, 3});
}

TEST_CASE("route: the gradient reaches the chosen experts alone, by p (1 - p)") {
  Tape tape;
  const Variable logits = tape.leaf(f64({0, -5, std::log(3.0)}, {1, 1, 3}));
  const ops::Routing r = ops::route(tape, logits, {.k = 2});
  tape.backward_from({{r.gate, f64({16, 100}, {1, 2})}});
  expect_close(logits.gradient(), {100 * 0.25, 0, 16 * 0.75 * 0.25});
}

TEST_CASE("route: expert dropout ranks by 'not excluded', then by p, then by lower index") {
  const Tensor logits = random_tensor({2, 5, 12}, 1);  // 2 sequences, 5 tokens, 2 heads of 6 experts
  const RngState rng{.seed = 9, .first_sample = 40};
  for (const double p : {0.3, 0.9}) {  // 0.9 leaves fewer than K in most rows
    const std::vector<int32_t> chosen =
        experts_of(logits, {.heads = 2, .k = 3, .expert_dropout = p, .source = source(rng.seed, rng.first_sample, 4)});
    int filled_with_excluded = 0;
    for (uint64_t row = 0; row < 20; ++row) {
      const uint64_t sequence = row / 10, in_sequence = row % 10;
      const double* l = logits.data<double>() + row * 6;
      std::vector<int32_t> ranking(6);
      std::iota(ranking.begin(), ranking.end(), 0);
      const auto excluded = [&](int32_t e) {
        return static_cast<double>(dropout_uniform(rng, sequence, 4, in_sequence * 6 + static_cast<uint64_t>(e))) < p;
      };
      std::stable_sort(ranking.begin(), ranking.end(),
                       [&](int32_t a, int32_t b) { return excluded(a) != excluded(b) ? excluded(b) : l[a] > l[b]; });
      for (uint64_t j = 0; j < 3; ++j) {
        CHECK(chosen[row * 3 + j] == ranking[j] + 6 * static_cast<int32_t>(row % 2));
        filled_with_excluded += excluded(ranking[j]) ? 1 : 0;
      }
    }
    if (p == 0.9) CHECK(filled_with_excluded > 20);
  }
}

TEST_CASE("route: forced experts are taken, with their own gates") {
  const Tensor logits = f64({5, 1, -1, 5, 2, -2}, {1, 2, 3});
  const Tensor forced = Tensor::from<int32_t>({2, 1, 1, 0}, {2, 2});
  const ops::Routing r = routed(logits, {.k = 2, .forced = forced});
  CHECK(r.expert.to_vector<int32_t>() == std::vector<int32_t>{2, 1, 1, 0});
  expect_close(r.gate.value(), {sigmoid(-1), sigmoid(1), sigmoid(2), sigmoid(5)});
}

TEST_CASE("route: backward") {
  expect_sound_backward(gates({.k = 3}), {logits_without_ties({2, 3, 7}, 7, 1)});
  expect_sound_backward(gates({.heads = 2, .k = 2, .expert_dropout = 0.5, .source = source(1, 2, 3)}),
                        {logits_without_ties({2, 3, 8}, 4, 1)});
}

TEST_CASE("route: errors") {
  const Tensor logits = Tensor::zeros({1, 2, 6}, DType::f64);
  CHECK_THROWS_WITH_AS(routed(logits, {.heads = 2, .k = 4}), "route: cannot choose k = 4 of 3 experts", ShapeError);
  CHECK_THROWS_WITH_AS(routed(logits, {.k = 0}), "route: cannot choose k = 0 of 6 experts", ShapeError);
  CHECK_THROWS_WITH_AS(routed(logits, {.heads = 4, .k = 1}), "route: logits (B=1, T=2, HE=6) do not split into 4 heads",
                       ShapeError);
  CHECK_THROWS_WITH_AS(routed(logits, {.k = 1, .forced = Tensor::zeros({2, 2}, DType::i32)}),
                       "route: forced experts i32 (2, 2) on cpu should be (rows=2, k=1)", ShapeError);
  CHECK_THROWS_WITH_AS(routed(logits, {.heads = 2, .k = 1, .forced = Tensor::from<int32_t>({0, 3, 3, 4}, {4, 1})}),
                       "route: forced expert 3 of row 2 is not among its experts 0 to 2", ShapeError);
}

TEST_CASE("route: reproducible") {
  expect_reproducible(gates({.heads = 4, .k = 2, .expert_dropout = 0.1, .source = source(1, 0, 0)}),
                      {random_tensor({3, 60, 32}, 1)});
}

TEST_CASE("route: many experts and pairs on every device") {
  expect_devices_agree(gates({.k = 9}), {random_tensor({2, 200, 700}, 1)});
  expect_devices_agree(gates({.heads = 3, .k = 3}), {random_tensor({2, 400, 12}, 2)});
}
