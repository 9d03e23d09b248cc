#include "autograd/ops/add.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {
const Op kAdd = [](Tape& tape, const std::vector<Variable>& x) { return ops::add(tape, x[0], x[1]); };
}  // namespace

TEST_CASE("add: values") {
  Tape tape;
  const Variable y = ops::add(tape, Variable(f64({1, -2, 3}, {3})), Variable(f64({10, 20, 0.5}, {3})));
  CHECK(elements(y.value()) == std::vector<double>{11, 18, 3.5});
  CHECK_FALSE(y.needs_gradient());
}

TEST_CASE("add: backward") {
  expect_sound_backward(kAdd, {random_tensor({2, 3}, 1), random_tensor({2, 3}, 2)});
}

TEST_CASE("add: a value added to itself gets the gradient twice") {
  Tape tape;
  const Variable x = tape.leaf(f64({1, 2}, {2}));
  const Variable y = ops::add(tape, x, x);
  const Tensor dy = f64({3, 5}, {2});
  tape.backward_from({{y, dy}});
  CHECK(elements(x.gradient()) == std::vector<double>{6, 10});
  CHECK(elements(dy) == std::vector<double>{3, 5});  // shared on the way, never written
}

TEST_CASE("add: the two branches of a residual do not write each other's gradient") {
  // x + (x + z): both adds hand one buffer on; the one for x must be copied before the second use is added to it.
  Tape tape;
  const Variable x = tape.leaf(f64({1}, {1})), z = tape.leaf(f64({1}, {1}));
  const Variable y = ops::add(tape, x, ops::add(tape, x, z));
  tape.backward_from({{y, f64({7}, {1})}});
  CHECK(x.gradient().item() == 14);
  CHECK(z.gradient().item() == 7);
}

TEST_CASE("add: errors") {
  Tape tape;
  const Variable a(Tensor::zeros({2, 3}, DType::f64)), b(Tensor::zeros({3, 2}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::add(tape, a, b), "add: shapes (2, 3) and (3, 2) differ", ShapeError);
  const Variable narrow(Tensor::zeros({2, 3}, DType::f32));
  CHECK_THROWS_WITH_AS(ops::add(tape, a, narrow),
                       "add: operands have different element types: f64 (2, 3) on cpu and f32 (2, 3) on cpu",
                       ShapeError);
}

TEST_CASE("add: reproducible") {
  expect_reproducible(kAdd, {random_tensor({64, 1000}, 1), random_tensor({64, 1000}, 2)});
}
