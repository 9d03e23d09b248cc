#include "kernels/reduce.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

namespace {
constexpr int64_t kRows = 32;
}

template <class T>
size_t column_sum_workspace_bytes(Cpu, int64_t rows, int64_t n) {
  return static_cast<size_t>((rows + kRows - 1) / kRows * n) * sizeof(T);
}

template <class T>
void column_sum(Cpu, const Launch& launch, int64_t rows, int64_t n, const T* x, int64_t ldx, T* out, Mode mode) {
  T* partials = static_cast<T*>(launch.workspace);
  parallel_blocks(rows, kRows, [&](int64_t begin, int64_t end) {
    T* mine = partials + begin / kRows * n;
    std::fill_n(mine, n, T(0));
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < n; ++j) mine[j] += x[i * ldx + j];
    }
  });
  if (mode == Mode::overwrite) std::fill_n(out, n, T(0));
  for (int64_t block = 0; block < (rows + kRows - 1) / kRows; ++block) {
    for (int64_t j = 0; j < n; ++j) out[j] += partials[block * n + j];
  }
}

template size_t column_sum_workspace_bytes<float>(Cpu, int64_t, int64_t);
template size_t column_sum_workspace_bytes<double>(Cpu, int64_t, int64_t);
template void column_sum(Cpu, const Launch&, int64_t, int64_t, const float*, int64_t, float*, Mode);
template void column_sum(Cpu, const Launch&, int64_t, int64_t, const double*, int64_t, double*, Mode);

}  // namespace moeut::kernels
