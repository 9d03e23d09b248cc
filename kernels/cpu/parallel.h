// Row-parallel work. Pieces depend on the shape alone, never on the number of threads, so that results do not either.
#pragma once

#include <omp.h>

#include <cstdint>
#include <exception>

namespace moeut::kernels {

/// Threads that a parallel region of this process uses: what workspaces are sized by.
inline int thread_count() {
  return omp_get_max_threads();
}

/// f(piece, thread) for each piece in [0, pieces), in any order, on all threads. f must not throw.
template <class F>
void parallel_pieces(int64_t pieces, F&& f) {
#pragma omp parallel for schedule(dynamic, 1) if (pieces > 1)
  for (int64_t piece = 0; piece < pieces; ++piece) f(piece, omp_get_thread_num());
}

/// f(begin, end) for consecutive blocks of [0, n) of a fixed length.
template <class F>
void parallel_blocks(int64_t n, int64_t block, F&& f) {
  parallel_pieces((n + block - 1) / block, [&](int64_t piece, int) {
    const int64_t begin = piece * block;
    f(begin, begin + block < n ? begin + block : n);
  });
}

}  // namespace moeut::kernels
