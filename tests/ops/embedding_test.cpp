#include "autograd/ops/embedding.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

Op embedding_of(const Tensor& token) {
  return [token](Tape& tape, const std::vector<Variable>& x) {
    return ops::embedding(tape, token.to(x[0].device()), x[0]);
  };
}

}  // namespace

TEST_CASE("embedding: values") {
  Tape tape;
  const Tensor token = Tensor::from<int32_t>({2, 0, 2, 1}, {2, 2});
  const Variable y = ops::embedding(tape, token, Variable(f64({1, 2, 3, 4, 5, 6}, {3, 2})));
  CHECK(y.shape() == Shape{2, 2, 2});
  CHECK(elements(y.value()) == std::vector<double>{5, 6, 1, 2, 5, 6, 3, 4});
}

TEST_CASE("embedding: rows of a token that appears twice add up, others are zero") {
  Tape tape;
  const Variable table = tape.leaf(f64({1, 2, 3, 4, 5, 6}, {3, 2}));
  const Variable y = ops::embedding(tape, Tensor::from<int32_t>({2, 0, 2}, {1, 3}), table);
  tape.backward_from({{y, f64({1, 2, 10, 20, 100, 200}, {1, 3, 2})}});
  CHECK(elements(table.gradient()) == std::vector<double>{10, 20, 0, 0, 101, 202});
}

TEST_CASE("embedding: backward") {
  expect_sound_backward(embedding_of(random_ids({2, 4}, 5, 1)), {random_tensor({5, 3}, 2)});
}

TEST_CASE("embedding: errors") {
  Tape tape;
  const Variable table(Tensor::zeros({3, 2}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::embedding(tape, Tensor::from<int32_t>({0, 3}, {1, 2}), table),
                       "embedding: token 3 at place 1 is outside the vocabulary of 3", ShapeError);
  CHECK_THROWS_WITH_AS(ops::embedding(tape, Tensor::from<int32_t>({-1}, {1, 1}), table),
                       "embedding: token -1 at place 0 is outside the vocabulary of 3", ShapeError);
  CHECK_THROWS_WITH_AS(ops::embedding(tape, f64({0}, {1, 1}), table),
                       "embedding: tokens must be i32, not f64 (1, 1) on cpu", ShapeError);
}

TEST_CASE("embedding: reproducible") {
  expect_reproducible(embedding_of(random_ids({4, 100}, 50, 1)), {random_tensor({50, 64}, 2)});
}

TEST_CASE("embedding: many tokens of few kinds on every device") {
  expect_devices_agree(embedding_of(random_ids({4, 300}, 7, 1)), {random_tensor({9, 300}, 2)}, 1024);
}
