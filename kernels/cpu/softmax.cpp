#include "kernels/cpu/softmax.h"

namespace moeut::kernels {

MOEUT_CLONES void exp_shifted(const float* x, float* y, int64_t n, float shift) { exp_shifted_body(x, y, n, shift); }
MOEUT_CLONES void exp_shifted(const double* x, double* y, int64_t n, double shift) { exp_shifted_body(x, y, n, shift); }

}  // namespace moeut::kernels
