#include "autograd/ops/linear.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {
const Op kBiased = [](Tape& tape, const std::vector<Variable>& x) { return ops::linear(tape, x[0], x[1], x[2]); };
const Op kPlain = [](Tape& tape, const std::vector<Variable>& x) { return ops::linear(tape, x[0], x[1]); };
}  // namespace

TEST_CASE("linear: values") {
  Tape tape;
  const Variable x(f64({1, 2, 3, -1, 0, 1}, {2, 3})), w(f64({1, 0, 2, 0, -1, 1}, {2, 3}));
  CHECK(elements(ops::linear(tape, x, w).value()) == std::vector<double>{7, 1, 1, 1});
  const Variable bias(f64({10, 20}, {2}));
  CHECK(elements(ops::linear(tape, x, w, bias).value()) == std::vector<double>{17, 21, 11, 21});
  const Variable batched(f64({1, 2, 3, -1, 0, 1}, {2, 1, 3}));
  CHECK(ops::linear(tape, batched, w).shape() == Shape{2, 1, 2});
}

TEST_CASE("linear: gradients by hand") {
  // y = x Wᵀ + b: dx = dy W, dW = dyᵀ x, db = Σ dy.
  Tape tape;
  const Variable x = tape.leaf(f64({1, 2, 3, 4}, {2, 2})), w = tape.leaf(f64({5, 6}, {1, 2})),
                 b = tape.leaf(f64({0}, {1}));
  tape.backward_from({{ops::linear(tape, x, w, b), f64({1, 10}, {2, 1})}});
  CHECK(elements(x.gradient()) == std::vector<double>{5, 6, 50, 60});
  CHECK(elements(w.gradient()) == std::vector<double>{31, 42});
  CHECK(elements(b.gradient()) == std::vector<double>{11});
}

TEST_CASE("linear: backward") {
  expect_sound_backward(kBiased, {random_tensor({2, 3, 4}, 1), random_tensor({5, 4}, 2), random_tensor({5}, 3)});
  expect_sound_backward(kPlain, {random_tensor({3, 4}, 1), random_tensor({5, 4}, 2)});
}

TEST_CASE("linear: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({2, 3}, DType::f64)), w(Tensor::zeros({5, 4}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::linear(tape, x, w), "linear: x (2, 3) does not fit weight (M=5, K=4)", ShapeError);
  const Variable good(Tensor::zeros({2, 4}, DType::f64)), bias(Tensor::zeros({4}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::linear(tape, good, w, bias), "linear: bias (4) does not fit weight (M=5, K=4)", ShapeError);
}

TEST_CASE("linear: reproducible") {
  expect_reproducible(kBiased, {random_tensor({2, 70, 96}, 1), random_tensor({130, 96}, 2), random_tensor({130}, 3)});
}
