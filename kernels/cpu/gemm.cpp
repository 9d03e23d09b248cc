// Dense matrix product through OpenBLAS: the only include of a BLAS.
#include "kernels/gemm.h"

#include <cblas.h>

#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

namespace {

/// BLAS runs on the calling thread: its own threading would make results depend on the number of threads.
void blas_single_threaded() {
  static const bool done = (openblas_set_num_threads(1), true);
  (void)done;
}

CBLAS_TRANSPOSE flag(bool transpose) { return transpose ? CblasTrans : CblasNoTrans; }

void blas(const Gemm<float>& g) {
  cblas_sgemm(CblasRowMajor, flag(g.transpose_a), flag(g.transpose_b), static_cast<int>(g.m), static_cast<int>(g.n), static_cast<int>(g.k), g.scale,
              g.a, static_cast<int>(g.lda), g.b, static_cast<int>(g.ldb), g.mode == Mode::accumulate ? 1.0f : 0.0f, g.c, static_cast<int>(g.ldc));
}

void blas(const Gemm<double>& g) {
  cblas_dgemm(CblasRowMajor, flag(g.transpose_a), flag(g.transpose_b), static_cast<int>(g.m), static_cast<int>(g.n), static_cast<int>(g.k), g.scale,
              g.a, static_cast<int>(g.lda), g.b, static_cast<int>(g.ldb), g.mode == Mode::accumulate ? 1.0 : 0.0, g.c, static_cast<int>(g.ldc));
}

template <class T>
void clear(const Gemm<T>& g) {
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) g.c[i * g.ldc + j] = T(0);
  }
}

/// The tile of C that begins at (i, j).
template <class T>
Gemm<T> tile(Gemm<T> g, int64_t i, int64_t j, int64_t rows, int64_t columns) {
  g.a += g.transpose_a ? i : i * g.lda;
  g.b += g.transpose_b ? j * g.ldb : j;
  g.c += i * g.ldc + j;
  g.m = i + rows < g.m ? rows : g.m - i;
  g.n = j + columns < g.n ? columns : g.n - j;
  return g;
}

}  // namespace

template <class T>
void gemm_serial(const Gemm<T>& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) {
    if (g.mode == Mode::overwrite) clear(g);
    return;
  }
  blas_single_threaded();
  blas(g);
}

template <class T>
void gemm(Cpu, const Launch&, const Gemm<T>& g) {
  const int64_t rows = g.m >= 1024 ? 128 : 64, columns = 512;
  const int64_t across = (g.n + columns - 1) / columns, down = (g.m + rows - 1) / rows;
  parallel_pieces(across * down, [&](int64_t piece, int) { gemm_serial(tile(g, piece / across * rows, piece % across * columns, rows, columns)); });
}

template void gemm_serial(const Gemm<float>&);
template void gemm_serial(const Gemm<double>&);
template void gemm(Cpu, const Launch&, const Gemm<float>&);
template void gemm(Cpu, const Launch&, const Gemm<double>&);

}  // namespace moeut::kernels
