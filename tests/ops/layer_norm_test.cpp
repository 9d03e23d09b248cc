#include "autograd/ops/layer_norm.h"

#include "autograd/ops/add.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

const Op kLayerNorm = [](Tape& tape, const std::vector<Variable>& x) {
  return ops::layer_norm(tape, x[0], x[1], x[2]);
};

/// All that depends on the sum of x and branch, or on x alone where `summed` is false.
Op norm_of_sum(bool summed) {
  return [summed](Tape& tape, const std::vector<Variable>& x) {
    const ops::NormedSum s = ops::layer_norm_of_sum(tape, x[0], summed ? x[3] : Variable(), x[1], x[2]);
    return ops::add(tape, s.h, ops::add(tape, s.narrow, s.y));
  };
}

/// The same by one op after the other.
const Op kComposed = [](Tape& tape, const std::vector<Variable>& x) {
  const Variable h = ops::add(tape, x[0], x[3]);
  return ops::add(tape, h, ops::add(tape, h, ops::layer_norm(tape, h, x[1], x[2])));
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

TEST_CASE("layer_norm_of_sum: values") {
  Tape tape;
  const Variable x(Tensor::from<float>({1, 2, 2, 5}, {1, 4})), branch(Tensor::from<float>({0, 0, 1, -1}, {1, 4})),
      w(Tensor::from<float>({1, 1, 1, 1}, {4})), b(Tensor::zeros({4}, DType::f32));
  const ops::NormedSum sum = ops::layer_norm_of_sum(tape, x, branch, w, b, {.out = DType::bf16});
  CHECK(elements(sum.h.value()) == std::vector<double>{1, 2, 3, 4});
  CHECK(elements(sum.narrow.value()) == std::vector<double>{1, 2, 3, 4});
  CHECK(sum.narrow.dtype() == DType::bf16);
  // (1 - 2.5) / √1.25 = -1.3416, and -0.4472; the nearest numbers of 8 bits.
  CHECK(elements(sum.y.value()) == std::vector<double>{-1.34375, -0.447265625, 0.447265625, 1.34375});
  const ops::NormedSum alone = ops::layer_norm_of_sum(tape, x, {}, w, b);
  CHECK(alone.h.value().raw() == x.value().raw());
  CHECK(alone.narrow.value().raw() == x.value().raw());
}

TEST_CASE("layer_norm_of_sum: backward") {
  std::vector<Tensor> all = inputs({2, 3, 5});
  expect_sound_backward(norm_of_sum(false), all);
  all.push_back(random_tensor({2, 3, 5}, 4));
  expect_sound_backward(norm_of_sum(true), all);
}

TEST_CASE("layer_norm_of_sum: fused equals composed") {
  std::vector<Tensor> all = inputs({3, 10, 33});
  all.push_back(random_tensor({3, 10, 33}, 4));
  const auto fused = value_and_gradients(norm_of_sum(true), all), composed = value_and_gradients(kComposed, all);
  for (size_t i = 0; i < fused.size(); ++i) expect_close(fused[i], composed[i], 4);  // three terms in another order
}

TEST_CASE("layer_norm_of_sum: what another holds of a gradient is not written") {
  Tape tape;
  const Variable x = tape.leaf(random_tensor({2, 8}, 1)), branch = tape.leaf(random_tensor({2, 8}, 2));
  const Variable w(random_tensor({8}, 3)), b(random_tensor({8}, 4));
  const ops::NormedSum sum = ops::layer_norm_of_sum(tape, x, branch, w, b);
  const Tensor dh = random_tensor({2, 8}, 5), before = dh.clone();
  tape.backward_from({{sum.h, dh}, {sum.y, random_tensor({2, 8}, 6)}});
  CHECK(same_bits(dh, before));
  CHECK_FALSE(same_bits(x.gradient(), before));
  CHECK(same_bits(x.gradient(), branch.gradient()));
}

TEST_CASE("layer_norm: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({2, 3}, DType::f64)), three(Tensor::zeros({3}, DType::f64)),
      two(Tensor::zeros({2}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::layer_norm(tape, x, three, two), "layer_norm: weight (3) and bias (2) do not fit x (2, 3)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(ops::layer_norm_of_sum(tape, x, two, three, three),
                       "layer_norm: branch (2) does not fit x (2, 3)", ShapeError);
}

TEST_CASE("layer_norm: reproducible") {
  std::vector<Tensor> all = inputs({3, 100, 96});
  expect_reproducible(kLayerNorm, all);
  all.push_back(random_tensor({3, 100, 96}, 4));
  expect_reproducible(norm_of_sum(true), all);
}
