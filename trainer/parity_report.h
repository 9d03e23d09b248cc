// What moeut-parity prints: the limits of a precision, one line a file, and whether a limit was passed.
#pragma once

#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "trainer/parity.h"

namespace moeut {

inline constexpr double kNoLimit = std::numeric_limits<double>::infinity();

/// The most that each error may be; kNoLimit: printed only.
struct ParityLimits {
  double outputs = kNoLimit;
  double losses = kNoLimit;  ///< reg_loss; ce_loss of a language model (a body's is a sum that may cancel)
  double gradient_median = kNoLimit, gradient_worst = kNoLimit;
  double ce_loss_begin = kNoLimit;  ///< of a trajectory: in its first 20 steps
  double ce_loss = kNoLimit;        ///< of a trajectory: in all steps
  double end_mean = 0.003;          ///< of a trajectory: mean of the last 20 steps
  double final_parameters = kNoLimit;
  double learning_rate = 1e-12;  ///< computed in float64 whatever the precision
};

ParityLimits parity_limits(Precision precision, RoutingSource routing);

/// "limits of fp32: outputs 2e-06, …": those that there are.
std::string describe_limits(const ParityLimits& limits, std::string_view precision, std::string_view routing);

/// One printed number.
struct Figure {
  std::string label;
  double error = 0;
  double limit = kNoLimit;
  std::string note;  ///< printed in brackets after the number

  bool within() const { return error <= limit; }
};

std::vector<Figure> figures_of(const GoldenCase& golden, const CaseErrors& errors, const ParityLimits& limits);
std::vector<Figure> figures_of(const TrajectoryErrors& errors, const ParityLimits& limits);

bool all_within(const std::vector<Figure>& figures);

/// "PATH KIND label error (note)  …  PASS", or "… FAIL: label error > limit, …".
std::string report_line(std::string_view path, std::string_view kind, const std::vector<Figure>& figures);

}  // namespace moeut
