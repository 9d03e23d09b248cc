// Sums of gradients that are the same bits in whatever order and groups they are added: what a micro-batch contributes
// does not depend on the rank that computed it.   [two-sum: Knuth, TAOCP 2, 4.2.2; rounding to odd: Boldo & Melquiond
// 2008]
// A sum is kept as `high` + `rest`. Adding a float to a double is nearly always exact (29 bits are to spare); where it
// is not, two-sum tells the error, which goes to `rest`. The pair is the exact sum as long as what lies in one
// element's `rest` fits a double: addends that are not 0 may differ by a factor of 2^70 and more. On the CPU only.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace moeut::kernels {

/// high[i] += x[i]; error[i] = what that has lost. False if nothing was lost (error is then all 0). An addend that is
/// not finite leaves an error of NaN.
template <class T>
bool add_exactly(Cpu, int64_t n, const T* x, double* high, double* error);

/// y[i] = high[i] + rest[i], rounded once to T, to nearest even. rest may be null: all 0.
template <class T>
void round_sums(Cpu, int64_t n, const double* high, const double* rest, T* y);

}  // namespace moeut::kernels
