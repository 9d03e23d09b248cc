// Sums that do not depend on the number of threads: fixed blocks, then the blocks in order.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// out[j] = Σ_i x[i, j] (a bias gradient).   x: (rows, n)   out: (n), by mode.
template <class T>
size_t column_sum_workspace_bytes(Cpu, int64_t rows, int64_t n);
template <class T>
size_t column_sum_workspace_bytes(Cuda, int64_t rows, int64_t n);
template <class T>
void column_sum(Cpu, const Launch&, int64_t rows, int64_t n, const T* x, int64_t ldx, Wide<T>* out, Mode mode);
template <class T>
void column_sum(Cuda, const Launch&, int64_t rows, int64_t n, const T* x, int64_t ldx, Wide<T>* out, Mode mode);

}  // namespace moeut::kernels
