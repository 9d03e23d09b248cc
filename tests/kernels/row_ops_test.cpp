#include "kernels/cpu/row_ops.h"

#include <algorithm>

#include "kernels/cpu/exp.h"
#include "tests/kernels/kernel_testing.h"

namespace moeut::kernels {

namespace {

using namespace moeut::testing;

/// |value - e^x| in units of the last place of e^x.
template <class T>
double ulps(T value, T x) {
  const long double exact = std::exp(static_cast<long double>(x));
  const T rounded = static_cast<T>(exact);
  const T unit = std::nextafter(rounded, std::numeric_limits<T>::infinity()) - rounded;
  return static_cast<double>(std::abs(static_cast<long double>(value) - exact) / static_cast<long double>(unit));
}

template <class T>
double worst_ulps(double low, double high) {
  constexpr int kPoints = 200001;
  std::vector<T> x(kPoints);
  for (int i = 0; i < kPoints; ++i) x[static_cast<size_t>(i)] = static_cast<T>(low + (high - low) * i / (kPoints - 1));
  std::vector<T> y = x;
  exp_sum_row(y.data(), kPoints, T(0));  // the machine's own instruction set; fast_exp() here is the baseline's
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) worst = std::max({worst, ulps(y[i], x[i]), ulps(fast_exp(x[i]), x[i])});
  return worst;
}

const std::vector<int64_t> kWidths = {0, 1, 5, 20, 31, 32, 33, 82, 412, 1000};

}  // namespace

TEST_CASE("fast_exp stays within the rounding that its header states") {
  CHECK(worst_ulps<float>(-86.89, 88.72) < 2);
  CHECK(worst_ulps<float>(-1, 1) < 2);
  CHECK(worst_ulps<double>(-707.9, 709.78) < 2);
  CHECK(worst_ulps<double>(-1, 1) < 2);
}

TEST_CASE_TEMPLATE("fast_exp at the ends of the number line", T, float, double) {
  constexpr T kInfinity = std::numeric_limits<T>::infinity(), kMax = std::numeric_limits<T>::max();
  const T overflow = sizeof(T) == 4 ? T(88.73) : T(709.79);
  std::vector<T> x = {-kInfinity, -kMax, T(-1e4), T(0), T(-0.0), overflow, T(1e4), kMax, kInfinity};
  const std::vector<T> expected = {0, 0, 0, 1, 1, kInfinity, kInfinity, kInfinity, kInfinity};
  for (size_t i = 0; i < x.size(); ++i) CHECK(fast_exp(x[i]) == expected[i]);
  CHECK(std::isnan(fast_exp(std::numeric_limits<T>::quiet_NaN())));
  exp_sum_row(x.data(), static_cast<int64_t>(x.size()), T(0));
  CHECK(x == expected);
}

TEST_CASE_TEMPLATE("row operations against plain loops", T, float, double) {
  for (int64_t n : kWidths) {
    INFO("n = ", n);
    const std::vector<T> x = random_values<T>(n, 1), y = random_values<T>(n, 2);
    const size_t size = x.size();
    std::vector<double> scaled(size), added(size), relu(size), relu_backward(size), p(size), dp(size);
    double dot = 0, magnitude = 0, sum = 0, largest = -std::numeric_limits<double>::infinity();
    for (size_t i = 0; i < size; ++i) {
      const double xi = static_cast<double>(x[i]), yi = static_cast<double>(y[i]);
      scaled[i] = 0.7 * xi, added[i] = yi + 0.7 * xi, relu[i] = std::max(xi, 0.0);
      relu_backward[i] = xi > 0 ? 0.7 * yi : 0;
      p[i] = std::exp(xi - 0.5), dp[i] = p[i] * (yi - 0.25);
      dot += xi * yi, magnitude += std::abs(xi * yi), sum += p[i], largest = std::max(largest, xi);
    }
    const T a = static_cast<T>(0.7);
    const double tolerance = 4 * kEpsilon<T>;  // an operation or two an element, and 0.7's own rounding

    std::vector<T> out = unset<T>(n);
    scale_row(x.data(), out.data(), n, a);
    CHECK(relative_error(out, scaled) <= tolerance);
    out = y;
    add_scaled_row(x.data(), out.data(), n, a);
    CHECK(relative_error(out, added) <= tolerance);
    out = x;
    relu_row(out.data(), n);
    CHECK(relative_error(out, relu) == 0);
    out = y;
    relu_backward_row(x.data(), out.data(), n, a);
    CHECK(relative_error(out, relu_backward) <= tolerance);
    CHECK(static_cast<double>(max_row(x.data(), n)) == largest);
    // A lane adds n / 16 products at least: its rounding is below n · eps / 16 of Σ |x y|, that of the fold below 6
    // eps.
    const double dot_tolerance = (static_cast<double>(n) / 16 + 6) * kEpsilon<T> * magnitude;
    CHECK(std::abs(static_cast<double>(dot_row(x.data(), y.data(), n)) - dot) <= dot_tolerance);

    // e^(x - shift) has the rounding of the difference (|x| < 5: 2 eps) and of the exponential (2 ulp).
    const double exp_tolerance = 8 * kEpsilon<T>;
    out = x;
    const double exp_sum = exp_sum_row(out.data(), n, static_cast<T>(0.5));
    CHECK(relative_error(out, p) <= exp_tolerance);
    CHECK(std::abs(exp_sum - sum) <= 2 * exp_tolerance * sum);
    std::vector<T> p_out = x, dp_out = y;
    softmax_backward_row(p_out.data(), dp_out.data(), n, static_cast<T>(0.5), static_cast<T>(0.25));
    CHECK(relative_error(p_out, p) <= exp_tolerance);
    CHECK(relative_error(dp_out, dp) <= exp_tolerance);
  }
}

TEST_CASE_TEMPLATE("NaN passes through the row operations, except the maximum", T, float, double) {
  std::vector<T> row(50, T(1));
  row[7] = std::numeric_limits<T>::quiet_NaN();
  CHECK(max_row(row.data(), 50) == 1);
  CHECK(std::isnan(dot_row(row.data(), row.data(), 50)));
  relu_row(row.data(), 50);
  CHECK(std::isnan(row[7]));
  CHECK(std::isnan(exp_sum_row(row.data(), 50, T(0))));
}

}  // namespace moeut::kernels
