// What the kernel tests share: inputs, poisoned outputs, errors, and runs on several numbers of threads.
#pragma once

#include <doctest/doctest.h>
#include <omp.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/launch.h"
#include "core/rng.h"

namespace moeut::testing {

template <class T>
inline constexpr double kEpsilon = std::numeric_limits<T>::epsilon();

/// Standard normal numbers times `scale`; the same for every element type up to rounding.
template <class T>
std::vector<T> random_values(int64_t n, uint64_t stream, double scale = 1) {
  Rng rng(2024, stream);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& v : values) v = static_cast<T>(scale * rng.normal());
  return values;
}

/// What an output looks like before an overwriting kernel: reading it anywhere turns a result into NaN.
template <class T>
std::vector<T> unset(int64_t n) {
  return std::vector<T>(static_cast<size_t>(n), std::numeric_limits<T>::quiet_NaN());
}

template <class T>
std::vector<double> in_double(const std::vector<T>& values) {
  return {values.begin(), values.end()};
}

/// ‖actual - expected‖₂ / ‖expected‖₂; infinity if an element is not finite.
template <class T>
double relative_error(const std::vector<T>& actual, const std::vector<double>& expected) {
  REQUIRE(actual.size() == expected.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double d = static_cast<double>(actual[i]) - expected[i];
    if (!std::isfinite(d)) return std::numeric_limits<double>::infinity();
    difference += d * d;
    norm += expected[i] * expected[i];
  }
  return norm > 0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

/// Launch with a workspace of exactly `bytes`, filled with NaN.
class Workspace {
 public:
  explicit Workspace(size_t bytes)
      : memory_(bytes / sizeof(double) + 1, std::numeric_limits<double>::quiet_NaN()), bytes_(bytes) {}
  operator Launch() {
    return {.workspace = memory_.data(), .workspace_bytes = bytes_};
  }  // NOLINT(google-explicit-constructor)

 private:
  std::vector<double> memory_;
  size_t bytes_;
};

/// run() returns a vector; it must have the same bits on 1, 2 and 3 threads, and twice on the same number. Returns it.
template <class F>
auto same_on_any_threads(F&& run) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  const auto reference = run();
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    const auto again = run();
    INFO(threads, " threads");
    REQUIRE(again.size() == reference.size());
    CHECK(std::memcmp(again.data(), reference.data(), again.size() * sizeof(reference[0])) == 0);
  }
  omp_set_num_threads(before);
  return reference;
}

/// a followed by b, to compare several outputs at once.
template <class T>
std::vector<T> joined(std::vector<T> a, const std::vector<T>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// a + b in float64: what accumulating b onto a must give.
template <class T>
std::vector<double> sum_of(const std::vector<T>& a, const std::vector<double>& b) {
  std::vector<double> sum(a.begin(), a.end());
  for (size_t i = 0; i < sum.size(); ++i) sum[i] += b[i];
  return sum;
}

}  // namespace moeut::testing
