// Initialisation by the rules of the paper; each parameter draws from a stream of its own, named by the parameter, so
// that the numbers do not depend on the order of construction or the number of threads.
#pragma once

#include <cstdint>

#include "autograd/parameter.h"

namespace moeut {

/// Elements N(0, std²), element i from the generator's counter i / 2.
void init_normal(Parameter& parameter, double std, uint64_t seed);
/// Elements uniform in [-bound, bound).
void init_uniform(Parameter& parameter, double bound, uint64_t seed);
void init_constant(Parameter& parameter, double value);

/// Every row divided by its norm, then the whole rescaled to the (unbiased) standard deviation it had.   value: (rows,
/// D)
void equalize_row_norms(Parameter& parameter);
/// u = x / ‖x‖ row by row; then x ← u · std(the row of the original x) / std(all of u).   value: (rows, D)
void normalize_rows_keep_row_std(Parameter& parameter);

}  // namespace moeut
