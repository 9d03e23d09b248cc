#include "autograd/ops/expert_value.h"

#include "tests/ops/expert_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr int64_t kHeads = 2, kExperts = 3, kWidth = 4, kHeadDim = 3, kChosen = 2;

/// Inputs: x, weight, router logits.
const Op kExpertValue = [](Tape& tape, const std::vector<Variable>& in) {
  return ops::expert_value(tape, in[0], in[1], kHeads, ops::route(tape, in[2], {.heads = kHeads, .k = kChosen}));
};

std::vector<Tensor> inputs() {
  return {random_tensor({2, 3, kWidth}, 1), random_tensor({kHeads * kExperts, kWidth, kHeadDim}, 2),
          logits_without_ties({2, 3, kHeads * kExperts}, kExperts, 3)};
}

}  // namespace

TEST_CASE("expert_value: values") {
  // Two heads of two experts, P = 1: expert e multiplies x by (10^e, 0) + (0, 1).
  Tape tape;
  const Variable x(f64({2, 4}, {1, 1, 2})), w(f64({1, 1, 10, 1, 100, 1, 1000, 1}, {4, 2, 1}));
  const auto run = [&](const std::vector<int32_t>& experts, int64_t k) {
    return elements(ops::expert_value(tape, x, w, 2, half_gated(tape, experts, {1, 1, 4}, 2, k)).value());
  };
  CHECK(run({1, 2}, 1) == std::vector<double>{12, 102});         // head 0: ½ (20 + 4), head 1: ½ (200 + 4)
  CHECK(run({0, 1, 3, 2}, 2) == std::vector<double>{15, 1104});  // ½ (6 + 24), ½ (2004 + 204)
}

TEST_CASE("expert_value: fused equals composed, and true gradients") {
  const std::vector<Tensor> in = inputs();
  Tape tape;
  const ops::Routing routing = ops::route(tape, Variable(in[2]), {.heads = kHeads, .k = kChosen});
  Tensor expected = Tensor::zeros({2, 3, kHeads * kHeadDim}, DType::f64);
  for (int64_t s = 0; s < routing.pairs(); ++s) {
    const Pair pair = pair_of(routing, s);
    const int64_t row = s / kChosen;  // token · H + head
    add_expert_product(in[0].data<double>() + row / kHeads * kWidth, in[1], pair.expert, pair.gate,
                       expected.data<double>() + row * kHeadDim);
  }
  expect_close(ops::expert_value(tape, Variable(in[0]), Variable(in[1]), kHeads, routing).value(), expected);
  expect_sound_backward(kExpertValue, in);
}

TEST_CASE("expert_value: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({1, 1, 3}, DType::f64)), w(Tensor::zeros({4, 2, 1}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::expert_value(tape, x, w, 2, half_gated(tape, {0, 2}, {1, 1, 4}, 2, 1)),
                       "expert_value: x (B=1, T=1, D=3), weight (HE=4, D=2, P=1) and a routing of 2 rows to 4 experts "
                       "do not fit",
                       ShapeError);
}

TEST_CASE("expert_value: reproducible") {
  const Op op = [](Tape& tape, const std::vector<Variable>& in) {
    return ops::expert_value(tape, in[0], in[1], 4, ops::route(tape, in[2], {.heads = 4, .k = 2}));
  };
  expect_reproducible(op,
                      {random_tensor({2, 50, 48}, 1), random_tensor({20, 48, 12}, 2), random_tensor({2, 50, 20}, 3)});
}
