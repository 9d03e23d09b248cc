// The logistic function, vectorisable.
#pragma once

#include "kernels/cpu/exp.h"

namespace moeut::kernels {

/// 1 / (1 + e^-x), to about 2 ulp; NaN stays NaN.
template <class T>
MOEUT_INLINE T sigmoid(T x) {
  return T(1) / (T(1) + fast_exp(-x));
}

}  // namespace moeut::kernels
