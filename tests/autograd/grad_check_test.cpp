#include "autograd/grad_check.h"

#include "tests/testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// y = x², with `error` added to the derivative of element `at`.
Variable square(Tape& tape, const Variable& x, double error, int64_t at) {
  Tensor y = x.value().clone();
  for (int64_t i = 0; i < y.size(); ++i) y.data<double>()[i] *= y.data<double>()[i];
  return tape.record(y, {x}, [=, xv = x.value()](const Tensor& dy, InputGradients& in) {
    const GradientTarget dx = in.target(0);
    for (int64_t i = 0; i < dy.size(); ++i) {
      const double derivative = 2 * xv.data<double>()[i] + (i == at ? error : 0);
      double& g = dx.tensor.data<double>()[i];
      g = (dx.mode == Mode::accumulate ? g : 0) + derivative * dy.data<double>()[i];
    }
  });
}

GradCheckResult check_square(double error, int64_t at) {
  return grad_check([=](Tape& tape, const std::vector<Variable>& x) { return square(tape, x[0], error, at); },
                    {random_tensor({2, 3}, 1)});
}

}  // namespace

TEST_CASE("grad_check: a true backward passes") {
  const GradCheckResult result = check_square(0, 0);
  CHECK(result.worst() <= 1e-9);
  CHECK(result.relative_error.size() == 1);
}

TEST_CASE("grad_check: a wrong one is reported with the worst entry") {
  const GradCheckResult result = check_square(0.1, 4);
  CHECK(result.worst() > 1e-3);
  CHECK(result.report.find("input 0 (2, 3): relative error") == 0);
  CHECK(result.report.find("worst at 4: analytic") != std::string::npos);
  CHECK(check_square(1e-4, 2).worst() > 1e-6);  // far below what is visible by eye
}

TEST_CASE("grad_check: a missing gradient and one that is not a number are wrong") {
  const auto forgets = [](Tape& tape, const std::vector<Variable>& x) {
    return tape.record(x[0].value().clone(), {x[0]}, [](const Tensor&, InputGradients&) {});
  };
  expect_near(grad_check(forgets, {random_tensor({3}, 1)}).worst(), 1, 1e-9);
  CHECK(std::isnan(check_square(std::nan(""), 1).worst()));
}

TEST_CASE("grad_check: each input by itself") {
  const auto first_only_wrong = [](Tape& tape, const std::vector<Variable>& x) {
    const Variable a = square(tape, x[0], 1, 0), b = square(tape, x[1], 0, 0);
    Tensor sum = a.value().clone();
    for (int64_t i = 0; i < sum.size(); ++i) sum.data<double>()[i] += b.value().data<double>()[i];
    return tape.record(sum, {a, b}, [](const Tensor& dy, InputGradients& in) {
      in.contribute(0, dy);
      in.contribute(1, dy);
    });
  };
  const GradCheckResult result = grad_check(first_only_wrong, {random_tensor({3}, 1), random_tensor({3}, 2)});
  REQUIRE(result.relative_error.size() == 2);
  CHECK(result.relative_error[0] > 1e-3);
  CHECK(result.relative_error[1] <= 1e-9);
}

TEST_CASE("grad_check: errors") {
  const auto f = [](Tape&, const std::vector<Variable>& x) { return x[0]; };
  CHECK_THROWS_WITH_AS(grad_check(f, {Tensor::zeros({2}, DType::f32)}), "grad_check: f32 (2) on cpu is not f64 on cpu",
                       ShapeError);
}
