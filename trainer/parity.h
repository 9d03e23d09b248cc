// How far this implementation is from a golden file: runs what the file describes and measures relative L2 errors.
#pragma once

#include <vector>

#include "core/device.h"
#include "trainer/golden_case.h"
#include "trainer/parity_error.h"

namespace moeut {

/// own: every router chooses for itself. reference: the experts are those that an fp64 run on the CPU chooses, so that
/// rounding alone is measured and no choice between near equals.
enum class RoutingSource { own, reference };

struct ParityOptions {
  Precision precision = Precision::fp32;
  Device device = Device::cpu();
  RoutingSource routing = RoutingSource::own;
  int64_t max_steps = 0;  ///< a trajectory stops after so many, its final parameters left out; 0: all
};

/// All errors are relative_error() of trainer/parity_error.h.
struct CaseErrors {
  double outputs = 0, reg_loss = 0, ce_loss = 0;
  /// Of each parameter, and of a body's input as "__input__"; empty if the file has no gradients.
  std::vector<NamedError> gradients;
};

struct TrajectoryErrors {
  int64_t steps = 0;
  double ce_loss_begin = 0;  ///< worst of the first 20 steps (or as many as there are)
  double ce_loss = 0;        ///< worst of all steps, as the next three
  double reg_loss = 0, grad_norm = 0, lr = 0;
  double end_mean = 0, reference_end_mean = 0;  ///< mean ce_loss of the last 20 steps, nats
  std::vector<NamedError> parameters;           ///< after the last step, those that the file has

  double end_error() const;
};

/// How many steps count as begin and end of a trajectory.
constexpr int64_t kTrajectoryWindow = 20;

/// Throws ConfigError for a precision that this version cannot compute in.
CaseErrors measure(const GoldenCase& golden, const ParityOptions& options);
TrajectoryErrors measure(const GoldenTrajectory& golden, const ParityOptions& options);

}  // namespace moeut
