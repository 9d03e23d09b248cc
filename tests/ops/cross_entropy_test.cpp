#include "autograd/ops/cross_entropy.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

Op cross_entropy_with(const Tensor& target, double scale) {
  return [=](Tape& tape, const std::vector<Variable>& x) {
    return ops::cross_entropy(tape, x[0], target.to(x[0].device()), scale).loss;
  };
}

Tensor ids(const std::vector<int32_t>& values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())});
}

}  // namespace

TEST_CASE("cross_entropy: values") {
  // Probabilities 1/4, 3/4 and 1/2, 1/2; the third row is not counted.
  Tape tape;
  const Variable logits(f64({0, std::log(3.0), 5, 5, 100, -100}, {3, 2}));
  const ops::CrossEntropy ce = ops::cross_entropy(tape, logits, ids({0, 1, -1}), 0.5);
  expect_close(ce.row_loss, {std::log(4.0), std::log(2.0), 0});
  expect_close(ce.loss.value(), {0.5 * (std::log(4.0) + std::log(2.0))});
}

TEST_CASE("cross_entropy: gradient by hand") {
  // scale · (softmax - one-hot), and nothing where the target is ignored.
  Tape tape;
  const Variable logits = tape.leaf(f64({0, std::log(3.0), 1, 2}, {2, 2}));
  const Variable loss = ops::cross_entropy(tape, logits, ids({0, -1}), 0.5).loss;
  tape.backward({{loss, 8}});
  expect_close(logits.gradient(), {8 * 0.5 * (0.25 - 1), 8 * 0.5 * 0.75, 0, 0});
}

TEST_CASE("cross_entropy: large logits neither overflow nor lose the difference") {
  Tape tape;
  const Variable logits(f64({1e4, 1e4 + 1, -1e4, 0}, {2, 2}));
  const ops::CrossEntropy ce = ops::cross_entropy(tape, logits, ids({0, 0}), 1);
  expect_close(ce.row_loss, {1 + std::log1p(std::exp(-1.0)), 1e4});
}

TEST_CASE("cross_entropy: fused equals log-softmax and a pick") {
  Tape tape;
  const Tensor logits = random_tensor({2, 3, 11}, 1, 3);
  const Tensor target = random_ids({2, 3}, 11, 2);
  const ops::CrossEntropy ce = ops::cross_entropy(tape, Variable(logits), target, 1);
  std::vector<double> composed;
  for (int64_t i = 0; i < 6; ++i) {
    const double* row = logits.data<double>() + 11 * i;
    double sum = 0;
    for (int v = 0; v < 11; ++v) sum += std::exp(row[v]);
    composed.push_back(-std::log(std::exp(row[target.data<int32_t>()[i]]) / sum));
  }
  expect_close(ce.row_loss, composed);
}

TEST_CASE("cross_entropy: backward") {
  const Tensor target = Tensor::from<int32_t>({3, -1, 0, 6}, {2, 2});
  expect_sound_backward(cross_entropy_with(target, 0.25), {random_tensor({2, 2, 7}, 1)});
}

TEST_CASE("cross_entropy: errors") {
  Tape tape;
  const Variable logits(Tensor::zeros({2, 3}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::cross_entropy(tape, logits, ids({0, 3}), 1),
                       "cross_entropy: target 3 at place 1 is outside the vocabulary of 3", ShapeError);
  CHECK_THROWS_WITH_AS(ops::cross_entropy(tape, logits, ids({0}), 1),
                       "cross_entropy: targets i32 (1) on cpu do not fit 2 rows of logits", ShapeError);
}

TEST_CASE("cross_entropy: reproducible") {
  expect_reproducible(cross_entropy_with(random_ids({2, 100}, 300, 2), 0.005), {random_tensor({2, 100, 300}, 1)});
}
