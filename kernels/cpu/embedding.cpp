#include "kernels/embedding.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

template <class T>
void embedding_forward(Cpu, const Launch&, int64_t n, int64_t width, const int32_t* token, const T* table, T* y) {
  parallel_blocks(n, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) std::copy_n(table + token[i] * width, width, y + i * width);
  });
}

// Pieces are columns: each is summed over the tokens in order by one thread.
template <class T>
void embedding_backward(Cpu, const Launch&, int64_t n, int64_t width, int64_t vocabulary, const int32_t* token, const T* dy, T* dtable, Mode mode) {
  parallel_blocks(width, 64, [&](int64_t begin, int64_t end) {
    if (mode == Mode::overwrite) {
      for (int64_t v = 0; v < vocabulary; ++v) std::fill_n(dtable + v * width + begin, end - begin, T(0));
    }
    for (int64_t i = 0; i < n; ++i) {
      T* row = dtable + token[i] * width;
      for (int64_t j = begin; j < end; ++j) row[j] += dy[i * width + j];
    }
  });
}

template void embedding_forward(Cpu, const Launch&, int64_t, int64_t, const int32_t*, const float*, float*);
template void embedding_forward(Cpu, const Launch&, int64_t, int64_t, const int32_t*, const double*, double*);
template void embedding_backward(Cpu, const Launch&, int64_t, int64_t, int64_t, const int32_t*, const float*, float*, Mode);
template void embedding_backward(Cpu, const Launch&, int64_t, int64_t, int64_t, const int32_t*, const double*, double*, Mode);

}  // namespace moeut::kernels
