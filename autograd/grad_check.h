// Gradients against central differences, in float64.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "autograd/tape.h"

namespace moeut {

struct GradCheckOptions {
  double step = 1e-5;  ///< of the central difference, times max(1, |x|)
  uint64_t seed = 1;   ///< of the random upstream gradient
};

/// What came out: the relative L2 error ‖analytic - numeric‖ / ‖numeric‖ of each input, and a report with the worst
/// entry of each.
struct GradCheckResult {
  std::vector<double> relative_error;
  std::string report;
  double worst() const;
};

/// Checks d⟨f(inputs), upstream⟩ for a random upstream gradient with respect to every element of every input.
/// f must be a pure function of its inputs. Inputs are float64 CPU tensors. Throws ShapeError for others.
GradCheckResult grad_check(const std::function<Variable(Tape&, const std::vector<Variable>&)>& f,
                           const std::vector<Tensor>& inputs, const GradCheckOptions& options = {});

}  // namespace moeut
