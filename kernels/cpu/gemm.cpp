// Dense matrix product through OpenBLAS: the only include of a BLAS.
#include "kernels/gemm.h"

#include <cblas.h>

#include <algorithm>

#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

namespace {

/// BLAS runs on the calling thread: its own threading would make results depend on the number of threads.
void blas_single_threaded() {
  [[maybe_unused]] static const bool done = (openblas_set_num_threads(1), true);
}

CBLAS_TRANSPOSE flag(bool transpose) {
  return transpose ? CblasTrans : CblasNoTrans;
}

template <class... Args>
void blas_gemm(float, Args... args) {
  cblas_sgemm(args...);
}
template <class... Args>
void blas_gemm(double, Args... args) {
  cblas_dgemm(args...);
}
template <class... Args>
void blas_gemv(float, Args... args) {
  cblas_sgemv(args...);
}
template <class... Args>
void blas_gemv(double, Args... args) {
  cblas_dgemv(args...);
}

template <class T>
void clear(const Gemm<T>& g) {
  for (int64_t i = 0; i < g.m; ++i) std::fill_n(g.c + i * g.ldc, g.n, T(0));
}

template <class T>
void matrix_matrix(const Gemm<T>& g) {
  blas_gemm(T(), CblasRowMajor, flag(g.transpose_a), flag(g.transpose_b), static_cast<int>(g.m), static_cast<int>(g.n),
            static_cast<int>(g.k), g.scale, g.a, static_cast<int>(g.lda), g.b, static_cast<int>(g.ldb),
            g.mode == Mode::accumulate ? T(1) : T(0), g.c, static_cast<int>(g.ldc));
}

/// One row (or column) of C, about five times as fast as by gemm, which would pack the whole matrix for it. C is
/// cleared here, as gemv may read it even if it is to be multiplied by 0.
template <class T>
void vector_matrix(const Gemm<T>& g) {
  const bool row = g.m == 1;
  if (g.mode == Mode::overwrite) clear(g);
  const T* matrix = row ? g.b : g.a;
  const auto ld = static_cast<int>(row ? g.ldb : g.lda);
  const bool by_rows = row ? g.transpose_b : !g.transpose_a;  // each row of the stored matrix gives one element of C
  const auto outputs = static_cast<int>(row ? g.n : g.m), k = static_cast<int>(g.k);
  const T* x = row ? g.a : g.b;
  const auto x_step = static_cast<int>(row ? (g.transpose_a ? g.lda : 1) : (g.transpose_b ? 1 : g.ldb));
  blas_gemv(T(), CblasRowMajor, flag(!by_rows), by_rows ? outputs : k, by_rows ? k : outputs, g.scale, matrix, ld, x,
            x_step, T(1), g.c, row ? 1 : static_cast<int>(g.ldc));
}

struct TileSize {
  int64_t rows, columns;
};

/// Pieces of `n`, none above `most`, of about equal length, a multiple of 16 where there are several.
int64_t even_share(int64_t n, int64_t most) {
  const int64_t pieces = (n + most - 1) / most;
  const int64_t share = (n + pieces - 1) / pieces;
  return pieces == 1 ? n : (share + 15) / 16 * 16;
}

/// The largest tile that leaves at least 16; BLAS copies its operands for each tile, and below 128 x 256 that shows.
TileSize tile_size(int64_t m, int64_t n) {
  constexpr TileSize kSizes[] = {{512, 512}, {256, 512}, {256, 256}, {128, 256}};
  TileSize size{};
  for (const TileSize& most : kSizes) {
    size = {even_share(m, most.rows), even_share(n, most.columns)};
    if ((m + size.rows - 1) / size.rows * ((n + size.columns - 1) / size.columns) >= 16) break;
  }
  return size;
}

/// The tile of C that begins at (i, j).
template <class T>
Gemm<T> tile(Gemm<T> g, int64_t i, int64_t j, const TileSize& size) {
  g.a += g.transpose_a ? i : i * g.lda;
  g.b += g.transpose_b ? j * g.ldb : j;
  g.c += i * g.ldc + j;
  g.m = std::min(size.rows, g.m - i);
  g.n = std::min(size.columns, g.n - j);
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
  if (g.m == 1 || g.n == 1) {
    vector_matrix(g);
  } else {
    matrix_matrix(g);
  }
}

template <class T, class Out>
void gemm(Cpu tag, const Launch& launch, const Gemm<T, Out>& g) {
  if (g.m == 0 || g.n == 0) return;
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const bool keep = g.mode == Mode::accumulate || g.ldc != g.n;
    gemm<float>(tag, launch,
                {.m = g.m,
                 .n = g.n,
                 .k = g.k,
                 .a = f.in(g.a, g.transpose_a ? extent(g.k, g.m, g.lda) : extent(g.m, g.k, g.lda)),
                 .lda = g.lda,
                 .transpose_a = g.transpose_a,
                 .b = f.in(g.b, g.transpose_b ? extent(g.n, g.k, g.ldb) : extent(g.k, g.n, g.ldb)),
                 .ldb = g.ldb,
                 .transpose_b = g.transpose_b,
                 .c = f.out(g.c, extent(g.m, g.n, g.ldc), keep),
                 .ldc = g.ldc,
                 .mode = g.mode,
                 .scale = g.scale});
  } else {
    const TileSize size = tile_size(g.m, g.n);
    const int64_t across = (g.n + size.columns - 1) / size.columns, down = (g.m + size.rows - 1) / size.rows;
    parallel_pieces(across * down, [&](int64_t piece, int) {
      gemm_serial(tile(g, piece / across * size.rows, piece % across * size.columns, size));
    });
  }
}

template void gemm_serial(const Gemm<float>&);
template void gemm_serial(const Gemm<double>&);
template void gemm<float>(Cpu, const Launch&, const Gemm<float>&);
template void gemm<double>(Cpu, const Launch&, const Gemm<double>&);
#define MOEUT_INSTANTIATE(T)                                 \
  template void gemm<T>(Cpu, const Launch&, const Gemm<T>&); \
  template void gemm<T, float>(Cpu, const Launch&, const Gemm<T, float>&);
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
