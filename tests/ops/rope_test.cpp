#include "autograd/ops/rope.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

Op rope_with(const ops::RopeOptions& options) {
  return [options](Tape& tape, const std::vector<Variable>& x) { return ops::rope(tape, x[0], options); };
}

}  // namespace

TEST_CASE("rope: values") {
  // One head of 5 dims, 4 of them rotated: pairs (0, 2) by angle t and (1, 3) by t · base^(-1/2) = t / 100.
  Tape tape;
  const Variable x(f64({1, 1, 0, 0, 7, 1, 1, 0, 0, 7}, {1, 2, 5}));
  const Variable y = ops::rope(tape, x, {.heads = 1, .n_rotate = 4, .scale = 2});
  expect_close(y.value(),
               {2, 2, 0, 0, 14, 2 * std::cos(1.0), 2 * std::cos(0.01), 2 * std::sin(1.0), 2 * std::sin(0.01), 14});
}

TEST_CASE("rope: each head alike, and another base") {
  Tape tape;
  const Variable x(f64({1, 1, 0, 0, 0, 0, 1, 1}, {1, 1, 8}));
  const Variable y = ops::rope(tape, x, {.heads = 2, .n_rotate = 4, .first_position = 3, .base = 100});
  // Frequencies 1 and 100^(-1/2).
  expect_close(y.value(), {std::cos(3.0), std::cos(0.3), std::sin(3.0), std::sin(0.3), -std::sin(3.0), -std::sin(0.3),
                           std::cos(3.0), std::cos(0.3)});
}

TEST_CASE("rope: a chunk at its position is the slice of the whole") {
  const Tensor x = random_tensor({1, 9, 8}, 1);
  const Tensor part = x.reshape({9, 8}).slice(4, 3).clone().reshape({1, 3, 8});
  Tape tape;
  const Variable whole = ops::rope(tape, Variable(x), {.heads = 2, .n_rotate = 2});
  const Variable chunk = ops::rope(tape, Variable(part), {.heads = 2, .n_rotate = 2, .first_position = 4});
  // Angles turn on from the start of each block of 16 positions: up to 16 more roundings (kernels/cpu/rope.cpp).
  expect_close(chunk.value(), whole.value().reshape({9, 8}).slice(4, 3).reshape({1, 3, 8}), 32);
}

TEST_CASE("rope: scores depend on the distance alone") {
  // ⟨R(t)q, R(s)k⟩ = ⟨R(t + 5)q, R(s + 5)k⟩.
  const Variable q(random_tensor({1, 1, 6}, 1)), k(random_tensor({1, 1, 6}, 2));
  Tape tape;
  const auto score = [&](int64_t t, int64_t s) {
    const auto a = elements(ops::rope(tape, q, {.n_rotate = 6, .first_position = t}).value());
    const auto b = elements(ops::rope(tape, k, {.n_rotate = 6, .first_position = s}).value());
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
  };
  // Angles up to 12 are rounded to 12 ε, and six products add up.
  CHECK(std::abs(score(7, 2) - score(12, 7)) <= 6 * 12 * epsilon(DType::f64) * 10);
  CHECK(std::abs(score(7, 2) - score(7, 3)) > 1e-3);
}

TEST_CASE("rope: backward") {
  expect_sound_backward(rope_with({.heads = 2, .n_rotate = 4, .first_position = 3, .scale = 0.7}),
                        {random_tensor({2, 3, 10}, 1)});
  expect_sound_backward(rope_with({.heads = 1, .n_rotate = 0}), {random_tensor({1, 2, 3}, 1)});
}

TEST_CASE("rope: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({1, 2, 6}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::rope(tape, x, {.heads = 4}), "rope: (B=1, T=2, HP=6) does not split into 4 heads",
                       ShapeError);
  CHECK_THROWS_WITH_AS(ops::rope(tape, x, {.heads = 2, .n_rotate = 3}),
                       "rope: 3 rotated dims of 3 a head (must be even)", ShapeError);
  CHECK_THROWS_WITH_AS(ops::rope(tape, x, {.heads = 2, .n_rotate = 4}),
                       "rope: 4 rotated dims of 3 a head (must be even)", ShapeError);
}

TEST_CASE("rope: reproducible") {
  expect_reproducible(rope_with({.heads = 4, .n_rotate = 16}), {random_tensor({2, 60, 128}, 1)});
}
