// Relative L2 errors, as golden files are compared.
#pragma once

#include <string>
#include <vector>

#include "core/tensor.h"

namespace moeut {

/// ‖a - b‖₂ / ‖b‖₂ over all elements in float64; ‖a - b‖₂ if b is 0; infinite if an element is not finite.
/// `scale` > 0 takes the place of ‖b‖₂. Throws ShapeError if the shapes differ.
double relative_error(const Tensor& actual, const Tensor& expected, double scale = 0);
double relative_error(double actual, double expected);

/// ‖t‖₂ in float64.
double norm_of(const Tensor& t);

struct NamedError {
  std::string name;
  double error = 0;
};

/// 0 for an empty list.
double median_of(const std::vector<NamedError>& errors);
/// The largest, or {"none", 0}.
NamedError worst_of(const std::vector<NamedError>& errors);

}  // namespace moeut
