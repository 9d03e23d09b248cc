#include "trainer/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moeut {
namespace {

double half_cosine(double share) {
  return 0.5 * (1 + std::cos(std::numbers::pi * share));
}

double decay(DecayShape shape, double share) {
  switch (shape) {
    case DecayShape::cosine:
      return half_cosine(share);
    case DecayShape::sqrt:
      return 1 - std::sqrt(share);
    default:
      return 1 - share;
  }
}

/// What is left, from 1 to 0, of the way from peak to floor.
double remaining(const ScheduleSection& schedule, double steps, double now) {
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  const auto decay_steps = static_cast<double>(schedule.decay_steps);
  switch (schedule.name) {
    case ScheduleKind::linear:
      return 1 - (now - warmup) / (steps - warmup);
    case ScheduleKind::wsd:
      return now < steps - decay_steps ? 1 : decay(schedule.decay_shape, (now - (steps - decay_steps)) / decay_steps);
    case ScheduleKind::constant:
    case ScheduleKind::inverse_sqrt:
      return 1;
    default:
      return half_cosine((now - warmup) / (schedule.cosine_over == CosineOver::all ? steps : steps - warmup));
  }
}

}  // namespace

double learning_rate(const ScheduleSection& schedule, double peak, int64_t steps, int64_t t) {
  const auto warmup = static_cast<double>(schedule.warmup_steps);
  const auto now = static_cast<double>(t);
  const double floor = schedule.min_lr_multiplier;
  if (now < warmup) return peak * (now + 1) / warmup;
  if (schedule.name == ScheduleKind::inverse_sqrt)
    return peak * std::max(floor, std::sqrt(std::max(warmup, 1.0) / (now + 1)));
  return peak * (floor + (1 - floor) * remaining(schedule, static_cast<double>(steps), now));
}

}  // namespace moeut
