#include "autograd/ops/append_time.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

Op appended_to(const Tensor& past) {
  return [past](Tape& tape, const std::vector<Variable>& x) {
    return ops::append_time(tape, past.to(Device::cpu(), x[0].dtype()).to(x[0].device()), x[0]);
  };
}

}  // namespace

TEST_CASE("append_time: values and gradient") {
  Tape tape;
  const Tensor past = f64({1, 2, 3, 4}, {2, 1, 2});
  const Variable x = tape.leaf(f64({5, 6, 7, 8, 9, 10, 11, 12}, {2, 2, 2}));
  const Variable y = ops::append_time(tape, past, x);
  CHECK(y.shape() == Shape{2, 3, 2});
  CHECK(elements(y.value()) == std::vector<double>{1, 2, 5, 6, 7, 8, 3, 4, 9, 10, 11, 12});
  tape.backward_from({{y, f64({0, 0, 1, 2, 3, 4, 0, 0, 5, 6, 7, 8}, {2, 3, 2})}});
  CHECK(elements(x.gradient()) == std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8});
}

TEST_CASE("append_time: backward") {
  expect_sound_backward(appended_to(random_tensor({2, 3, 4}, 1)), {random_tensor({2, 2, 4}, 2)});
}

TEST_CASE("copy_time: into the middle, leaving the rest") {
  const Tensor to = Tensor::zeros({2, 3, 1}, DType::f64);
  ops::copy_time(f64({1, 2}, {2, 1, 1}), to, 1);
  CHECK(elements(to) == std::vector<double>{0, 1, 0, 0, 2, 0});
}

TEST_CASE("append_time: errors") {
  const Tensor to = Tensor::zeros({2, 3, 4}, DType::f64);
  CHECK_THROWS_WITH_AS(ops::copy_time(Tensor::zeros({2, 2, 4}, DType::f64), to, 2),
                       "copy_time: (B=2, T=2, W=4) does not fit into (B=2, T=3, W=4) at 2", ShapeError);
  Tape tape;
  CHECK_THROWS_WITH_AS(
      ops::append_time(tape, Tensor::zeros({2, 2, 5}, DType::f64), Variable(Tensor::zeros({2, 1, 4}, DType::f64))),
      "append_time: (B=2, T=1, W=4) does not continue (B=2, T=2, W=5)", ShapeError);
}

TEST_CASE("append_time: reproducible") {
  expect_reproducible(appended_to(random_tensor({3, 20, 64}, 1)), {random_tensor({3, 30, 64}, 2)});
}
