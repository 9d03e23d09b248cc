#include "autograd/ops/expert_ffn.h"

#include "tests/ops/expert_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

constexpr int64_t kExperts = 4, kWidth = 5, kHidden = 3, kChosen = 2;

/// Inputs: x, keys, values, router logits.
const Op kExpertFfn = [](Tape& tape, const std::vector<Variable>& in) {
  return ops::expert_ffn(tape, in[0], in[1], in[2], ops::route(tape, in[3], {.k = kChosen}));
};

std::vector<Tensor> inputs() {
  return {random_tensor({2, 3, kWidth}, 1), random_tensor({kExperts, kWidth, kHidden}, 2),
          random_tensor({kExperts, kHidden, kWidth}, 3), logits_without_ties({2, 3, kExperts}, kExperts, 4)};
}

/// Token by token, expert by expert. `nearest` gets the smallest |x · key|: the distance to relu's kink.
Tensor composed(const std::vector<Tensor>& in, const ops::Routing& routing, double& nearest) {
  Tensor y = Tensor::zeros(in[0].shape(), DType::f64);
  for (int64_t s = 0; s < routing.pairs(); ++s) {
    const Pair pair = pair_of(routing, s);
    std::vector<double> hidden(kHidden);
    add_expert_product(in[0].data<double>() + s / kChosen * kWidth, in[1], pair.expert, 1, hidden.data());
    for (double& h : hidden) {
      nearest = std::min(nearest, std::abs(h));
      h = std::max(h, 0.0);
    }
    add_expert_product(hidden.data(), in[2], pair.expert, pair.gate, y.data<double>() + s / kChosen * kWidth);
  }
  return y;
}

}  // namespace

TEST_CASE("expert_ffn: values") {
  // Expert 0: relu(x · (1, 2)) · 3; expert 1: relu(x · (-1, 0)) · 5; every gate is 1/2.
  Tape tape;
  const Variable x(f64({1, 2, -4, 0}, {1, 2, 2})), keys(f64({1, 2, -1, 0}, {2, 2, 1})),
      values(f64({3, 30, 5, 50}, {2, 1, 2}));
  const ops::Routing one = half_gated(tape, {0, 1}, {1, 2, 2}, 1, 1);
  // Token 0 at expert 0: h = 5; token 1 at expert 1: h = 4.
  CHECK(elements(ops::expert_ffn(tape, x, keys, values, one).value()) == std::vector<double>{7.5, 75, 10, 100});
  const ops::Routing both = half_gated(tape, {0, 1, 1, 0}, {1, 2, 2}, 1, 2);
  // Token 0 at expert 1: relu(-1) = 0; token 1 at expert 0: relu(-4) = 0.
  CHECK(elements(ops::expert_ffn(tape, x, keys, values, both).value()) == std::vector<double>{7.5, 75, 10, 100});
}

TEST_CASE("expert_ffn: fused equals composed, and true gradients") {
  const std::vector<Tensor> in = inputs();
  Tape tape;
  const ops::Routing routing = ops::route(tape, Variable(in[3]), {.k = kChosen});
  double nearest = 1;
  const Tensor expected = composed(in, routing, nearest);
  REQUIRE(nearest > 1e-3);  // central differences step by about 1e-5: none crosses relu's kink
  expect_close(ops::expert_ffn(tape, Variable(in[0]), Variable(in[1]), Variable(in[2]), routing).value(), expected);
  expect_sound_backward(kExpertFfn, in);
}

TEST_CASE("expert_ffn: an expert nobody chose has a zero gradient") {
  Tape tape;
  const Variable x(random_tensor({1, 2, kWidth}, 1)), keys = tape.leaf(random_tensor({kExperts, kWidth, kHidden}, 2)),
                                                      values = tape.leaf(random_tensor({kExperts, kHidden, kWidth}, 3));
  const Variable y = ops::expert_ffn(tape, x, keys, values, half_gated(tape, {1, 1}, {1, 2, kExperts}, 1, 1));
  tape.backward_from({{y, random_tensor(y.shape(), 4)}});
  for (const int64_t e : {0, 2, 3}) {
    CHECK(elements(keys.gradient().slice(e, 1)) == std::vector<double>(kWidth * kHidden, 0.0));
    CHECK(elements(values.gradient().slice(e, 1)) == std::vector<double>(kWidth * kHidden, 0.0));
  }
}

TEST_CASE("expert_ffn: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({1, 2, 5}, DType::f64)), keys(Tensor::zeros({4, 5, 3}, DType::f64)),
      values(Tensor::zeros({4, 3, 5}, DType::f64)), turned(Tensor::zeros({4, 5, 3}, DType::f64));
  const ops::Routing r = half_gated(tape, {0, 1}, {1, 2, 4}, 1, 1), few = half_gated(tape, {0}, {1, 1, 4}, 1, 1);
  CHECK_THROWS_WITH_AS(ops::expert_ffn(tape, x, keys, turned, r),
                       "expert_ffn: x (1, 2, 5), keys (E=4, D=5, S=3) and values (E=4, S=5, D=3) do not fit",
                       ShapeError);
  CHECK_THROWS_WITH_AS(
      ops::expert_ffn(tape, x, keys, values, few),
      "expert_ffn: the routing of 1 rows to 4 experts does not fit x (1, 2, 5) and keys (E=4, D=5, S=3)", ShapeError);
}

TEST_CASE("expert_ffn: reproducible") {
  const Op op = [](Tape& tape, const std::vector<Variable>& in) {
    return ops::expert_ffn(tape, in[0], in[1], in[2], ops::route(tape, in[3], {.k = 3}));
  };
  expect_reproducible(op, {random_tensor({2, 60, 48}, 1), random_tensor({8, 48, 32}, 2), random_tensor({8, 32, 48}, 3),
                           random_tensor({2, 60, 8}, 4)});
}

TEST_CASE("expert_ffn: experts of many tiles on every device") {
  // About 240 rows an expert, sizes that fill no tile.
  expect_devices_agree(kExpertFfn,
                       {random_tensor({2, 300, 100}, 1), random_tensor({5, 100, 70}, 2), random_tensor({5, 70, 100}, 3),
                        random_tensor({2, 300, 5}, 4)},
                       1024);
}
