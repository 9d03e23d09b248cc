#include "autograd/ops/layer_norm.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

const Op kLayerNorm = [](Tape& tape, const std::vector<Variable>& x) {
  return ops::layer_norm(tape, x[0], x[1], x[2]);
};

std::vector<Tensor> inputs(const Shape& shape) {
  return {random_tensor(shape, 1), random_tensor({shape[-1]}, 2), random_tensor({shape[-1]}, 3)};
}

}  // namespace

TEST_CASE("layer_norm: values") {
  // mean 2.5, variance 1.25: y = (x - 2.5) / √(1.25 + eps) · w + b.
  Tape tape;
  const Variable x(f64({1, 2, 3, 4}, {1, 4})), w(f64({1, 1, 2, -1}, {4})), b(f64({0, 10, 0, 0}, {4}));
  const double s = 1 / std::sqrt(1.25 + 1e-5);
  expect_close(ops::layer_norm(tape, x, w, b).value(), {-1.5 * s, 10 - 0.5 * s, s, -1.5 * s});
  const double wide = 1 / std::sqrt(1.25 + 0.75);
  expect_close(ops::layer_norm(tape, x, w, b, {.eps = 0.75}).value(),
               {-1.5 * wide, 10 - 0.5 * wide, wide, -1.5 * wide});
}

TEST_CASE("layer_norm: a constant row gives the bias") {
  Tape tape;
  const Variable y =
      ops::layer_norm(tape, Variable(f64({3, 3}, {1, 2})), Variable(f64({1, 1}, {2})), Variable(f64({0.25, -4}, {2})));
  CHECK(elements(y.value()) == std::vector<double>{0.25, -4});
}

TEST_CASE("layer_norm: backward") {
  expect_sound_backward(kLayerNorm, inputs({2, 3, 5}));
}

TEST_CASE("layer_norm: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({2, 3}, DType::f64)), three(Tensor::zeros({3}, DType::f64)),
      two(Tensor::zeros({2}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::layer_norm(tape, x, three, two), "layer_norm: weight (3) and bias (2) do not fit x (2, 3)",
                       ShapeError);
}

TEST_CASE("layer_norm: reproducible") {
  expect_reproducible(kLayerNorm, inputs({3, 100, 96}));
}
