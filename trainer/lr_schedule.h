// The learning rate as a function of the step.
#pragma once

#include <cstdint>

#include "trainer/config.h"

namespace moeut {

/// Linear warm-up, then one of the schedules below. Step t = 0..N-1 of N = `steps`, W = warmup_steps, m =
/// min_lr_multiplier, peak = 1:
///   t < W          (t+1) / W
///   cosine         m + (1-m) · ½ (1 + cos(π s))   s = (t-W) / (N-W), or (t-W) / N with cosine_over = all
///   linear         m + (1-m) · (1 - s)            s = (t-W) / (N-W)
///   constant       1
///   wsd            1 while t < N-D, D = decay_steps; then m + (1-m) · f(s), s = (t-(N-D)) / D, and f(s) = 1 - s, ½ (1
///   +
///                  cos(π s)) or 1 - √s by decay_shape
///   inverse_sqrt   max(m, √(max(W, 1) / (t+1)))
/// A pure function, so nothing of it needs to be saved.   [cosine: moeut.md, Golden files, and the official training
/// code for cosine_over = all; wsd: Hu et al. 2024 (MiniCPM), 1 - √s: Hägele et al. 2024; inverse_sqrt: Vaswani et al.
/// 2017]
double learning_rate(const ScheduleSection& schedule, double peak, int64_t steps, int64_t t);

}  // namespace moeut
