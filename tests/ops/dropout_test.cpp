#include "autograd/ops/dropout.h"

#include "tests/ops/op_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

ops::DropoutSource source(uint64_t seed, uint64_t first_sample, uint64_t site) {
  return {Tensor::from<uint64_t>({seed, first_sample}, {2}), site};
}

Op dropout_of(double p, const ops::DropoutSource& from) {
  return [=](Tape& tape, const std::vector<Variable>& x) {
    return ops::dropout(tape, x[0], p, {from.state.to(x[0].device()), from.site});
  };
}

}  // namespace

TEST_CASE("dropout: kept and scaled, or zero, as the generator says element by element") {
  Tape tape;
  const Variable x(random_tensor({3, 2, 5}, 1));
  const std::vector<double> y = elements(ops::dropout(tape, x, 0.25, source(7, 100, 2)).value());
  const RngState rng{.seed = 7, .first_sample = 100};
  int dropped = 0;
  for (uint64_t b = 0; b < 3; ++b) {
    for (uint64_t i = 0; i < 10; ++i) {
      const double in = x.value().data<double>()[b * 10 + i];
      const bool kept = static_cast<double>(dropout_uniform(rng, b, 2, i)) >= 0.25;
      expect_near(y[b * 10 + i], kept ? in / 0.75 : 0, 4 * epsilon(DType::f64));
      dropped += kept ? 0 : 1;
    }
  }
  CHECK(dropped > 0);
  CHECK(dropped < 30);
}

TEST_CASE("dropout: the share of dropped elements is p, and other sites and sequences drop others") {
  Tape tape;
  const int64_t n = 40000;
  const Variable ones(Tensor::from(std::vector<double>(n, 1.0), {1, n}));
  const auto draw = [&](uint64_t sample, uint64_t site) {
    return elements(ops::dropout(tape, ones, 0.3, source(1, sample, site)).value());
  };
  const std::vector<double> a = draw(0, 0), other_site = draw(0, 1), other_sample = draw(1, 0);
  const auto zeros = static_cast<double>(std::count(a.begin(), a.end(), 0.0));
  CHECK(std::abs(zeros / n - 0.3) < 4 * std::sqrt(0.3 * 0.7 / n));  // four standard deviations
  for (const std::vector<double>* b : {&other_site, &other_sample}) {
    double both = 0;
    for (size_t i = 0; i < a.size(); ++i) both += a[i] == 0 && (*b)[i] == 0 ? 1 : 0;
    CHECK(std::abs(both / n - 0.09) < 4 * std::sqrt(0.09 * 0.91 / n));  // independent: p²
  }
}

TEST_CASE("dropout: a batch cut in two gives the same numbers") {
  Tape tape;
  const Tensor x = random_tensor({4, 3, 7}, 1);
  const Tensor whole = ops::dropout(tape, Variable(x), 0.5, source(3, 10, 1)).value();
  const Tensor first = ops::dropout(tape, Variable(x.slice(0, 1)), 0.5, source(3, 10, 1)).value();
  const Tensor rest = ops::dropout(tape, Variable(x.slice(1, 3)), 0.5, source(3, 11, 1)).value();
  CHECK(same_bits(whole.slice(0, 1), first));
  CHECK(same_bits(whole.slice(1, 3), rest));
}

TEST_CASE("dropout: p = 0 is the value itself") {
  Tape tape;
  const Variable x = tape.leaf(random_tensor({2, 3}, 1));
  CHECK(ops::dropout(tape, x, 0, {}).value().raw() == x.value().raw());
}

TEST_CASE("dropout: backward") {
  expect_sound_backward(dropout_of(0.4, source(5, 0, 0)), {random_tensor({2, 3, 5}, 1)});
}

TEST_CASE("dropout: errors") {
  Tape tape;
  const Variable x(Tensor::zeros({2, 3}, DType::f64));
  CHECK_THROWS_WITH_AS(ops::dropout(tape, x, 1, source(1, 0, 0)), "dropout: probability 1 is outside [0, 1)",
                       ShapeError);
  CHECK_THROWS_WITH_AS(ops::dropout(tape, x, -0.5, source(1, 0, 0)), "dropout: probability -0.5 is outside [0, 1)",
                       ShapeError);
}

TEST_CASE("dropout: reproducible") {
  expect_reproducible(dropout_of(0.2, source(5, 3, 1)), {random_tensor({3, 50, 70}, 1)});
}
