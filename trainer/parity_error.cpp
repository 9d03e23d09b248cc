#include "trainer/parity_error.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/check.h"

namespace moeut {
namespace {

/// A NaN compares as smaller than nothing, so that it would pass every limit.
double finite_or_infinite(double error) {
  return std::isfinite(error) ? error : std::numeric_limits<double>::infinity();
}

double divided(double difference, double scale) {
  return finite_or_infinite(scale > 0 ? difference / scale : difference);
}

}  // namespace

double norm_of(const Tensor& t) {
  double squared = 0;
  for (const double v : t.to(Device::cpu(), DType::f64).to_vector<double>()) squared += v * v;
  return std::sqrt(squared);
}

double relative_error(const Tensor& actual, const Tensor& expected, double scale) {
  require<ShapeError>(actual.shape() == expected.shape(), "parity: {} cannot be compared with {}", actual.str(),
                      expected.str());
  const std::vector<double> a = actual.to(Device::cpu(), DType::f64).to_vector<double>();
  const std::vector<double> e = expected.to(Device::cpu(), DType::f64).to_vector<double>();
  double squared = 0;
  for (size_t i = 0; i < e.size(); ++i) squared += (a[i] - e[i]) * (a[i] - e[i]);
  return divided(std::sqrt(squared), scale > 0 ? scale : norm_of(expected));
}

double relative_error(double actual, double expected) {
  return divided(std::abs(actual - expected), std::abs(expected));
}

double median_of(const std::vector<NamedError>& errors) {
  if (errors.empty()) return 0;
  std::vector<double> sorted;
  for (const NamedError& e : errors) sorted.push_back(e.error);
  std::ranges::sort(sorted);
  const size_t middle = sorted.size() / 2;
  return sorted.size() % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

NamedError worst_of(const std::vector<NamedError>& errors) {
  if (errors.empty()) return {"none", 0};
  return *std::ranges::max_element(errors, {}, &NamedError::error);
}

}  // namespace moeut
