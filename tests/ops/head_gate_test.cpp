#include "autograd/ops/head_gate.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {
const Op kHeadGate = [](Tape& tape, const std::vector<Variable>& x) { return ops::head_gate(tape, x[0], x[1]); };
}  // namespace

TEST_CASE("head_gate: values") {
  // sigmoid(0) = 1/2, sigmoid(ln 3) = 3/4.
  Tape tape;
  const Variable x(f64({2, 4, 8, 16}, {1, 1, 4})), logit(f64({0, std::log(3.0)}, {1, 1, 2}));
  expect_close(ops::head_gate(tape, x, logit).value(), {1, 2, 6, 12});
}

TEST_CASE("head_gate: far logits shut and open without overflow") {
  Tape tape;
  const Variable x(f64({2, 4}, {1, 2})), logit(f64({-1000, 1000}, {1, 2}));
  CHECK(elements(ops::head_gate(tape, x, logit).value()) == std::vector<double>{0, 4});
}

TEST_CASE("head_gate: backward") {
  expect_sound_backward(kHeadGate, {random_tensor({2, 3, 8}, 1), random_tensor({2, 3, 2}, 2)});
}

TEST_CASE("head_gate: a value that gates itself") {
  expect_true_gradients([](Tape& tape, const std::vector<Variable>& x) { return ops::head_gate(tape, x[0], x[0]); },
                        {random_tensor({2, 3}, 1)});
}

TEST_CASE("head_gate: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({2, 6}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::head_gate(tape, x, Variable(Tensor::zeros({2, 4}, DType::f64))),
                       "head_gate: logits (2, 4) do not fit x (2, 6)", ShapeError);
  CHECK_THROWS_WITH_AS(ops::head_gate(tape, x, Variable(Tensor::zeros({3, 2}, DType::f64))),
                       "head_gate: logits (3, 2) do not fit x (2, 6)", ShapeError);
}

TEST_CASE("head_gate: reproducible") {
  expect_reproducible(kHeadGate, {random_tensor({2, 100, 64}, 1), random_tensor({2, 100, 4}, 2)});
}
