#include "autograd/ops/expert_output.h"

#include "tests/ops/expert_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr int64_t kHeads = 2, kExperts = 3, kWidth = 4, kHeadDim = 3, kChosen = 2;

/// Inputs: x, weight, router logits.
const Op kExpertOutput = [](Tape& tape, const std::vector<Variable>& in) {
  return ops::expert_output(tape, in[0], in[1], kHeads, ops::route(tape, in[2], {.heads = kHeads, .k = kChosen}));
};

std::vector<Tensor> inputs() {
  return {random_tensor({2, 3, kHeads * kHeadDim}, 1), random_tensor({kHeads * kExperts, kHeadDim, kWidth}, 2),
          logits_without_ties({2, 3, kHeads * kExperts}, kExperts, 3)};
}

}  // namespace

TEST_CASE("expert_output: values") {
  // Two heads of two experts, P = 1, D = 2: expert e writes (10^e, e).
  Tape tape;
  const Variable x(f64({2, 4}, {1, 1, 2})), w(f64({1, 0, 10, 1, 100, 2, 1000, 3}, {4, 1, 2}));
  const auto run = [&](const std::vector<int32_t>& experts, int64_t k) {
    return elements(ops::expert_output(tape, x, w, 2, half_gated(tape, experts, {1, 1, 4}, 2, k)).value());
  };
  CHECK(run({1, 2}, 1) == std::vector<double>{210, 5});          // ½ (2 · (10, 1) + 4 · (100, 2))
  CHECK(run({0, 1, 3, 2}, 2) == std::vector<double>{2211, 11});  // ½ (2 · (11, 1) + 4 · (1100, 5))
}

TEST_CASE("expert_output: fused equals composed, and true gradients") {
  const std::vector<Tensor> in = inputs();
  Tape tape;
  const ops::Routing routing = ops::route(tape, Variable(in[2]), {.heads = kHeads, .k = kChosen});
  Tensor expected = Tensor::zeros({2, 3, kWidth}, DType::f64);
  for (int64_t s = 0; s < routing.pairs(); ++s) {
    const Pair pair = pair_of(routing, s);
    const int64_t row = s / kChosen;  // token · H + head
    add_expert_product(in[0].data<double>() + row * kHeadDim, in[1], pair.expert, pair.gate,
                       expected.data<double>() + row / kHeads * kWidth);
  }
  expect_close(ops::expert_output(tape, Variable(in[0]), Variable(in[1]), kHeads, routing).value(), expected);
  expect_sound_backward(kExpertOutput, in);
}

TEST_CASE("expert_output: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({1, 1, 3}, DType::f64)), w(Tensor::zeros({4, 1, 2}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::expert_output(tape, x, w, 2, half_gated(tape, {0, 2}, {1, 1, 4}, 2, 1)),
                       "expert_output: x (B=1, T=1, HP=3), weight (HE=4, P=1, D=2) and a routing of 2 rows to 4 "
                       "experts do not fit",
                       ShapeError);
}

TEST_CASE("expert_output: reproducible") {
  const Op op = [](Tape& tape, const std::vector<Variable>& in) {
    return ops::expert_output(tape, in[0], in[1], 4, ops::route(tape, in[2], {.heads = 4, .k = 2}));
  };
  expect_reproducible(op,
                      {random_tensor({2, 50, 48}, 1), random_tensor({20, 12, 48}, 2), random_tensor({2, 50, 20}, 3)});
}
