#include "kernels/exact_sum.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "tests/kernels/kernel_testing.h"

using namespace moeut;
using namespace moeut::testing;

namespace {

/// The sum of floats, added in their order, rounded by round_sums.
template <class T>
T exact_sum(const std::vector<T>& values) {
  double high = 0, rest = 0, error = 0;
  for (const T value : values) {
    kernels::add_exactly<T>(Cpu{}, 1, &value, &high, &error);
    rest += error;
  }
  T y = 0;
  kernels::round_sums<T>(Cpu{}, 1, &high, &rest, &y);
  return y;
}

/// The same rounded by the compiler from the exact sum, in units of 2^-60. Needs |value| < 2^50 and no bit below.
float sum_by_integers(const std::vector<float>& values) {
  __int128 sum = 0;
  for (const float value : values) sum += static_cast<__int128>(std::ldexp(static_cast<long double>(value), 60));
  // In two steps of which the first is exact in its upper part would round twice: divide an odd-rounded value instead.
  const bool negative = sum < 0;
  unsigned __int128 magnitude = negative ? -static_cast<unsigned __int128>(sum) : static_cast<unsigned __int128>(sum);
  int shift = 0;
  bool sticky = false;
  while (magnitude >> 62 != 0) {
    sticky = sticky || (magnitude & 1) != 0;
    magnitude >>= 1;
    ++shift;
  }
  const auto odd = static_cast<int64_t>(magnitude) | static_cast<int64_t>(sticky);  // 62 bits and a sticky one
  const float rounded = std::ldexp(static_cast<float>(odd), shift - 60);            // int64 to float rounds once
  return negative ? -rounded : rounded;
}

/// Floats of 24 random bits at random scales from 2^-30 to 2^20.
std::vector<float> scattered(size_t count, uint64_t stream) {
  Rng rng(11, stream);
  std::vector<float> values;
  for (size_t i = 0; i < count; ++i) {
    const auto mantissa = static_cast<float>(std::floor(rng.uniform() * 16777216) - 8388608);
    values.push_back(std::ldexp(mantissa, static_cast<int>(rng.uniform() * 50) - 53));
  }
  return values;
}

}  // namespace

TEST_CASE("exact sum: what a double cannot hold decides a tie") {
  // 1 + 2^-24 lies between two floats; the third addend says to which it is rounded, and is lost in a double.
  const float one = 1, half_ulp = std::ldexp(1.0f, -24), tiny = std::ldexp(1.0f, -80);
  const float up = 1 + std::ldexp(1.0f, -23);
  CHECK(exact_sum<float>({one, half_ulp}) == one);  // to even
  CHECK(exact_sum<float>({one, half_ulp, tiny}) == up);
  CHECK(exact_sum<float>({tiny, one, half_ulp}) == up);
  CHECK(exact_sum<float>({one, half_ulp, -tiny}) == one);
  CHECK(exact_sum<float>({up, half_ulp, -tiny}) == up);
  CHECK(exact_sum<float>({up, half_ulp}) == 1 + std::ldexp(1.0f, -22));  // to even
  CHECK(exact_sum<float>({-one, -half_ulp, -tiny}) == -up);
  CHECK(static_cast<float>(1.0 + static_cast<double>(half_ulp) + static_cast<double>(tiny)) ==
        one);  // what plain fp64 does
}

TEST_CASE("exact sum: what cancels leaves what was beneath it") {
  CHECK(exact_sum<float>({1e30f, 1e-20f, -1e30f}) == 1e-20f);
  CHECK(exact_sum<double>({1e30, 1e-20, -1e30}) == 1e-20);
  CHECK(exact_sum<float>({0.0f, -0.0f}) == 0.0f);
  const float least = std::numeric_limits<float>::denorm_min();
  CHECK(exact_sum<float>({least, least, least}) == 3 * least);
}

TEST_CASE("exact sum: correctly rounded, and the same in every order") {
  Rng rng(12, 0);
  for (uint64_t trial = 0; trial < 3000; ++trial) {
    std::vector<float> values = scattered(2 + trial % 11, trial);
    const float expected = sum_by_integers(values);
    for (int order = 0; order < 4; ++order) {
      CAPTURE(trial);
      CHECK(exact_sum(values) == expected);
      for (size_t i = values.size(); i > 1; --i)
        std::swap(values[i - 1], values[static_cast<size_t>(rng.uniform() * static_cast<double>(i))]);
    }
  }
}

TEST_CASE("exact sum: says whether anything was lost, and where") {
  double high[3] = {1, 1, 1}, error[3];
  const float exact[3] = {1, 0.5f, -1}, inexact[3] = {1, std::ldexp(1.0f, -60), -1};
  CHECK_FALSE(kernels::add_exactly<float>(Cpu{}, 3, exact, high, error));
  CHECK(kernels::add_exactly<float>(Cpu{}, 3, inexact, high, error));
  CHECK(error[0] == 0);
  CHECK(error[1] == std::ldexp(1.0, -60));
  CHECK(error[2] == 0);
}

TEST_CASE("exact sum: what is not finite stays so") {
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK_FALSE(std::isfinite(exact_sum<float>({1, infinity, 2})));
  CHECK_FALSE(std::isfinite(exact_sum<float>({infinity, -infinity})));
  CHECK_FALSE(std::isfinite(exact_sum<float>({std::nanf(""), 1})));
  CHECK_FALSE(std::isfinite(exact_sum<float>({3e38f, 3e38f})));  // more than a float can be
  CHECK(exact_sum<float>({3e38f, 3e38f, -3e38f}) == 3e38f);
}
