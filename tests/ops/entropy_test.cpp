#include "autograd/ops/entropy.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

Op entropy_with(int64_t heads, double scale) {
  return [=](Tape& tape, const std::vector<Variable>& x) { return ops::entropy(tape, x, heads, scale); };
}

double value(const std::vector<Tensor>& logits, int64_t heads, double scale) {
  Tape tape;
  const std::vector<Variable> constants(logits.begin(), logits.end());
  return ops::entropy(tape, constants, heads, scale).value().item();
}

/// The definition, step by step: log_softmax, logmeanexp over repeats and time, Σ m exp m, mean over heads.
double composed(const std::vector<Tensor>& logits, int64_t heads, double scale) {
  const Shape& s = logits.front().shape();
  const int64_t experts = s[2] / heads;
  double total = 0;
  for (int64_t b = 0; b < s[0]; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      std::vector<double> mean(static_cast<size_t>(experts));
      for (const Tensor& l : logits) {
        for (int64_t t = 0; t < s[1]; ++t) {
          const double* row = l.data<double>() + (b * s[1] + t) * s[2] + h * experts;
          double sum = 0;
          for (int64_t e = 0; e < experts; ++e) sum += std::exp(row[e]);
          for (int64_t e = 0; e < experts; ++e) mean[static_cast<size_t>(e)] += std::exp(row[e]) / sum;
        }
      }
      for (const double p : mean) {
        const double m = std::log(p / static_cast<double>(logits.size()) / static_cast<double>(s[1]));
        total += m * std::exp(m) / static_cast<double>(heads);
      }
    }
  }
  return scale * total;
}

}  // namespace

TEST_CASE("entropy: values") {
  const double l3 = std::log(3.0);
  // Probabilities (1/4, 3/4) and (3/4, 1/4) have the mean (1/2, 1/2): minus the entropy is -ln 2 for the sequence.
  expect_near(value({f64({0, l3, l3, 0}, {1, 2, 2})}, 1, 1), -std::log(2.0), 1e-14);
  // The same two as repeats of a shared layer.
  expect_near(value({f64({0, l3}, {1, 1, 2}), f64({l3, 0}, {1, 1, 2})}, 1, 1), -std::log(2.0), 1e-14);
  // As two sequences each keeps its own: twice ¼ ln ¼ + ¾ ln ¾.
  const double each = 0.25 * std::log(0.25) + 0.75 * std::log(0.75);
  expect_near(value({f64({0, l3, l3, 0}, {2, 1, 2})}, 1, 0.5), each, 1e-14);
  // As two heads of one token: their mean.
  expect_near(value({f64({0, l3, 0, 0}, {1, 1, 4})}, 2, 1), 0.5 * (each - std::log(2.0)), 1e-14);
}

TEST_CASE("entropy: its ends are -ln E and 0, also for logits beyond the range of exp") {
  expect_near(value({f64({7, 7, 7, 7}, {1, 1, 4})}, 1, 1), -std::log(4.0), 1e-14);
  CHECK(std::abs(value({f64({2000, 0, 0, 0}, {1, 1, 4})}, 1, 1)) <= epsilon(DType::f64));
  CHECK(std::isfinite(value({f64({2000, 0, -2000, 0}, {1, 1, 4})}, 1, 1)));
}

TEST_CASE("entropy: fused equals composed") {
  const std::vector<Tensor> logits = {random_tensor({2, 3, 8}, 1), random_tensor({2, 3, 8}, 2)};
  for (const int64_t heads : {1, 2}) {
    expect_near(value(logits, heads, 0.7), composed(logits, heads, 0.7), 1e-13);
  }
}

TEST_CASE("entropy: backward") {
  const std::vector<Tensor> logits = {random_tensor({2, 3, 6}, 1), random_tensor({2, 3, 6}, 2),
                                      random_tensor({2, 3, 6}, 3)};
  expect_sound_backward(entropy_with(1, 0.5), logits);
  expect_sound_backward(entropy_with(2, 0.5), logits);
}

TEST_CASE("entropy: logits that serve as two repeats") {
  const auto twice = [](Tape& tape, const auto& x) { return ops::entropy(tape, {x[0], x[0]}, 1, 1); };
  expect_true_gradients(twice, {random_tensor({1, 2, 3}, 1)});
}

TEST_CASE("entropy: errors") {
  Tape tape;
  const Variable a(Tensor::zeros({1, 2, 3}, DType::f64)), b(Tensor::zeros({1, 2, 4}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::entropy(tape, {a, b}, 1, 1), "entropy: logits of shapes (1, 2, 3) and (1, 2, 4)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(ops::entropy(tape, {a}, 2, 1), "entropy: logits (B=1, T=2, HE=3) do not split into 2 heads",
                       ShapeError);
  CHECK_THROWS_WITH_AS(ops::entropy(tape, {}, 1, 1), "entropy: no logits, or 1 heads", ShapeError);
}

TEST_CASE("entropy: reproducible") {
  expect_reproducible(entropy_with(4, 0.01), {random_tensor({3, 50, 40}, 1), random_tensor({3, 50, 40}, 2)});
}
