// The learning rate as a function of the step.
#pragma once

#include <cstdint>

#include "trainer/config.h"

namespace moeut {

/// Linear warm-up, then a cosine to a floor. Step t = 0..N-1 of N = `steps`, W = warmup_steps, m = min_lr_multiplier:
///   t < W: peak · (t+1) / W        else: peak · (m + (1-m) · ½ (1 + cos(π (t-W) / (N-W))))
/// A pure function, so nothing of it needs to be saved.   [moeut.md, Golden files]
double learning_rate(const ScheduleSection& schedule, double peak, int64_t steps, int64_t t);

}  // namespace moeut
