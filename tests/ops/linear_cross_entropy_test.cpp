#include "autograd/ops/linear_cross_entropy.h"

#include "autograd/ops/linear.h"
#include "core/memory.h"
#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

Op fused(const Tensor& target, const ops::LinearCrossEntropyOptions& options) {
  return [=](Tape& tape, const std::vector<Variable>& x) {
    const Variable bias = x.size() > 2 ? x[2] : Variable();
    return ops::linear_cross_entropy(tape, x[0], x[1], bias, target.to(x[0].device()), options).loss;
  };
}

Op composed(const Tensor& target, double scale) {
  return [=](Tape& tape, const std::vector<Variable>& x) {
    return ops::cross_entropy(tape, ops::linear(tape, x[0], x[1], x[2]), target.to(x[0].device()), scale).loss;
  };
}

/// 300 rows, some of them ignored, of which a block of `block_elements` = 700 logits takes 128.
constexpr int64_t kRows = 300, kVocabulary = 7, kBlock = 700;

std::vector<Tensor> inputs() {
  return {random_tensor({2, kRows / 2, 5}, 1), random_tensor({kVocabulary, 5}, 2), random_tensor({kVocabulary}, 3)};
}
Tensor targets() {
  Tensor t = random_ids({2, kRows / 2}, kVocabulary, 4);
  for (const int64_t ignored : {0, 130, 299}) t.data<int32_t>()[ignored] = -1;
  return t;
}

/// The gradient of x in fp16 where that of the loss is `upstream` and forward has been told to expect `expected`.
Tensor gradient_in_fp16(double upstream, const Tensor& expected) {
  Tape tape;
  const auto narrow = [](const Tensor& t) { return t.to(Device::cpu(), DType::f32).to(Device::cpu(), DType::f16); };
  const Variable x = tape.leaf(narrow(random_tensor({4, 5}, 1))), w(narrow(random_tensor({kVocabulary, 5}, 2)));
  const auto loss = ops::linear_cross_entropy(tape, x, w, {}, random_ids({4}, kVocabulary, 3),
                                              {.scale = 0x1p-30, .upstream = expected});
  tape.backward({{loss.loss, upstream}});
  return x.gradient();
}

}  // namespace

TEST_CASE("linear_cross_entropy: values") {
  // Logits (0, ln 3) and (ln 3, ln 3): probabilities 1/4, 3/4 and 1/2, 1/2.
  Tape tape;
  const double log3 = std::log(3.0);
  const Variable x = tape.leaf(f64({0, 1}, {2, 1})), w = tape.leaf(f64({log3, 0}, {2, 1})), b(f64({0, log3}, {2}));
  const auto ce = ops::linear_cross_entropy(tape, x, w, b, Tensor::from<int32_t>({0, 1}, {2}), {.scale = 0.5});
  expect_close(ce.row_loss, {std::log(4.0), std::log(2.0)});
  expect_close(ce.loss.value(), {0.5 * std::log(8.0)});
  tape.backward({{ce.loss, 8}});
  // 4 (p - one-hot) = (-3, 3) and (2, -2), times W, and times x over the rows.
  expect_close(x.gradient(), {-3 * log3, 2 * log3});
  expect_close(w.gradient(), {2, -2});
}

TEST_CASE("linear_cross_entropy: backward") {
  const Tensor target = Tensor::from<int32_t>({3, -1, 0, 6}, {2, 2});
  const std::vector<Tensor> biased = {random_tensor({2, 2, 3}, 1), random_tensor({7, 3}, 2), random_tensor({7}, 3)};
  expect_sound_backward(fused(target, {.scale = 0.25}), biased);
  expect_sound_backward(fused(target, {.scale = 0.25}), {biased[0], biased[1]});
}

TEST_CASE("linear_cross_entropy: block by block equals composed") {
  const auto expected = value_and_gradients(composed(targets(), 0.01), inputs());
  for (const int64_t block : {kBlock, int64_t{1} << 26}) {
    const auto actual = value_and_gradients(fused(targets(), {.scale = 0.01, .block_elements = block}), inputs());
    for (size_t i = 0; i < expected.size(); ++i) expect_close(actual[i], expected[i], 256);  // sums of 300 rows
  }
}

TEST_CASE("linear_cross_entropy: any upstream gradient gives the same, if not in range") {
  const auto expected = value_and_gradients(fused(targets(), {.scale = 0.01}), inputs());
  const auto actual = value_and_gradients(fused(targets(), {.scale = 0.01, .upstream = f64({1024}, {1})}), inputs());
  for (size_t i = 0; i < expected.size(); ++i) expect_close(actual[i], expected[i], 16);
  // 2^-30 is 0 in fp16 and 2^-14 is not.
  const Tensor lost = gradient_in_fp16(65536, {});
  CHECK(elements(lost) == std::vector<double>(20, 0));
  const Tensor kept = gradient_in_fp16(65536, Tensor::from<float>({65536}, {1}));
  const Tensor more = gradient_in_fp16(2 * 65536, Tensor::from<float>({65536}, {1}));
  CHECK(relative_l2(kept, lost) > 0);
  for (int64_t i = 0; i < kept.size(); ++i) CHECK(elements(more)[i] == 2 * elements(kept)[i]);
}

TEST_CASE("linear_cross_entropy: a block of logits is all that there is of them") {
  const Device meta = Device::meta();
  const Variable x(Tensor::empty({1024, 8}, DType::f32, meta)), b(Tensor::empty({512}, DType::f32, meta));
  const Tensor target = Tensor::empty({1024}, DType::i32, meta);
  Tape tape;
  const Variable w = tape.leaf(Tensor::empty({512, 8}, DType::f32, meta));
  reset_peak(meta);
  const size_t before = memory_stats(meta).in_use;
  const auto loss = ops::linear_cross_entropy(tape, x, w, b, target, {.block_elements = 128 * 512}).loss;
  tape.backward({{loss}});
  const size_t peak = memory_stats(meta).peak - before;
  CHECK(peak >= 128 * 512 * 4);
  CHECK(peak < 2 * 128 * 512 * 4);  // of 8 blocks
}

TEST_CASE("linear_cross_entropy: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({2, 3}, DType::f64)), w(Tensor::zeros({5, 3}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::linear_cross_entropy(tape, x, w, {}, Tensor::from<int32_t>({0, 5}, {2}), {}),
                       "linear_cross_entropy: target 5 at place 1 is outside the vocabulary of 5", ShapeError);
  CHECK_THROWS_WITH_AS(ops::linear_cross_entropy(tape, w, x, x, Tensor::from<int32_t>({0}, {1}), {}),
                       "linear_cross_entropy: bias (2, 3) does not fit weight (M=2, K=3)", ShapeError);
}

TEST_CASE("linear_cross_entropy: reproducible") {
  expect_reproducible(fused(targets(), {.scale = 0.01, .block_elements = kBlock}), inputs());
}
