#include "trainer/lr_schedule.h"

#include <cmath>
#include <numbers>

namespace moeut {

double learning_rate(const ScheduleSection& schedule, double peak, int64_t steps, int64_t t) {
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  const auto now = static_cast<double>(t);
  if (now < warmup) return peak * (now + 1) / warmup;
  const double share = (now - warmup) / (static_cast<double>(steps) - warmup);
  const double floor = schedule.min_lr_multiplier;
  return peak * (floor + (1 - floor) * 0.5 * (1 + std::cos(std::numbers::pi * share)));
}

}  // namespace moeut
