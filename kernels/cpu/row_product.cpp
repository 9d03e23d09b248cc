// W is taken a panel of columns at a time, two vectors wide. The panel is copied so that its rows follow each other,
// then six rows of x meet it at once: twelve accumulators that stay in registers over the whole inner dimension. The
// rows of x are read where they lie.
#include "kernels/cpu/row_product.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace {

constexpr int kTileRows = 6;
/// Up to here a panel is read where it lies: it is not used often enough to pay for the copy.
constexpr int64_t kDirectRows = kTileRows;
constexpr int64_t kWidestPanel = 32;  ///< elements: two vectors of 64 bytes of float

template <class T, int kBytes>
struct Simd {
  typedef T Vector __attribute__((vector_size(kBytes)));
  static constexpr int kLanes = kBytes / static_cast<int>(sizeof(T));
};

template <class Vector, class T>
MOEUT_INLINE void load(Vector& v, const T* from) {
  std::memcpy(&v, from, sizeof v);
}
template <class Vector, class T>
MOEUT_INLINE void store(const Vector& v, T* to) {
  std::memcpy(to, &v, sizeof v);
}

/// Columns [j, j + columns) of W, its rows `ld` elements apart; where they were copied, filled up with zeros to whole
/// vectors. What is needed next is asked for meanwhile, `ahead_ld` elements for each row: it comes from main memory, in
/// steps that the processor does not foresee.
template <class T>
struct Panel {
  const T* data;
  int64_t ld, j, columns;
  const T* ahead;
  int64_t ahead_ld;
};

/// Rows [i, i + kRows) of y within the panel's columns.
template <class T, int kBytes, int kRows, int kVectors>
MOEUT_INLINE void tile(const RowProduct<T>& a, int64_t i, const Panel<T>& panel) {
  using Vector = typename Simd<T, kBytes>::Vector;
  constexpr int kLanes = Simd<T, kBytes>::kLanes;
  Vector sum[kRows][kVectors] = {};
  const T* x[kRows];
  for (int r = 0; r < kRows; ++r) x[r] = a.x[i + r];
  const T *w = panel.data, *ahead = panel.ahead;
  for (int64_t p = 0; p < a.in; ++p, w += panel.ld, ahead += panel.ahead_ld) {
    __builtin_prefetch(ahead, 0, 2);
    Vector b[kVectors];
    for (int v = 0; v < kVectors; ++v) load(b[v], w + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) sum[r][v] += x[r][p] * b[v];
    }
  }
  const bool whole = panel.columns == kVectors * kLanes;
#pragma GCC unroll 6
  for (int r = 0; r < kRows; ++r) {
    T row[kVectors * kLanes];
    T* y = a.y + (i + r) * a.ldy + panel.j;
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      Vector s = sum[r][v];
      if (a.scale != nullptr) s *= a.scale[i + r];
      if (a.relu) s = s < T(0) ? Vector{} : s;
      store(s, (whole ? y : row) + v * kLanes);
    }
    if (!whole) std::copy_n(row, panel.columns, y);
  }
}

template <class T, int kBytes, int kVectors>
MOEUT_INLINE void all_rows(const RowProduct<T>& a, Panel<T> panel) {
  int64_t i = 0;
  for (; i + kTileRows <= a.rows; i += kTileRows) {
    tile<T, kBytes, kTileRows, kVectors>(a, i, panel);
    panel.ahead_ld = 0;  // once is enough
  }
  switch (a.rows - i) {
    case 5:
      return tile<T, kBytes, 5, kVectors>(a, i, panel);
    case 4:
      return tile<T, kBytes, 4, kVectors>(a, i, panel);
    case 3:
      return tile<T, kBytes, 3, kVectors>(a, i, panel);
    case 2:
      return tile<T, kBytes, 2, kVectors>(a, i, panel);
    case 1:
      return tile<T, kBytes, 1, kVectors>(a, i, panel);
    default:
      return;
  }
}

/// A square of 16-byte vectors, turned.
MOEUT_INLINE void transpose_square(const float* from, int64_t ld_from, float* to, int64_t ld_to) {
  typedef float V __attribute__((vector_size(16)));
  V r0, r1, r2, r3;
  load(r0, from);
  load(r1, from + ld_from);
  load(r2, from + 2 * ld_from);
  load(r3, from + 3 * ld_from);
  const V low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
  const V low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
  store(__builtin_shufflevector(low01, low23, 0, 1, 4, 5), to);
  store(__builtin_shufflevector(low01, low23, 2, 3, 6, 7), to + ld_to);
  store(__builtin_shufflevector(high01, high23, 0, 1, 4, 5), to + 2 * ld_to);
  store(__builtin_shufflevector(high01, high23, 2, 3, 6, 7), to + 3 * ld_to);
}
MOEUT_INLINE void transpose_square(const double* from, int64_t ld_from, double* to, int64_t ld_to) {
  typedef double V __attribute__((vector_size(16)));
  V r0, r1;
  load(r0, from);
  load(r1, from + ld_from);
  store(__builtin_shufflevector(r0, r1, 0, 2), to);
  store(__builtin_shufflevector(r0, r1, 1, 3), to + ld_to);
}

/// to[p, c] = from[c, p] for c < columns, p < n.
template <class T>
MOEUT_INLINE void transpose(const T* from, int64_t columns, int64_t n, T* to, int64_t width) {
  constexpr int64_t kSide = 16 / sizeof(T);
  const int64_t whole_columns = columns / kSide * kSide, whole_n = n / kSide * kSide;
  for (int64_t p = 0; p < whole_n; p += kSide) {
    for (int64_t c = 0; c < whole_columns; c += kSide) transpose_square(from + c * n + p, n, to + p * width + c, width);
  }
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t p = c < whole_columns ? whole_n : 0; p < n; ++p) to[p * width + c] = from[c * n + p];
  }
}

template <class T, int kBytes, int kVectors>
MOEUT_INLINE void copy_rows(const T* from, int64_t ld, int64_t rows, T* to) {
  constexpr int kLanes = Simd<T, kBytes>::kLanes;
  for (int64_t p = 0; p < rows; ++p, from += ld, to += kVectors * kLanes) {
    for (int v = 0; v < kVectors; ++v) {
      typename Simd<T, kBytes>::Vector row;
      load(row, from + v * kLanes);
      store(row, to + v * kLanes);
    }
  }
}

/// Copies columns [j, j + columns) of W into `to`.
template <class T, int kBytes, int kVectors>
MOEUT_INLINE void copy_panel(const RowProduct<T>& a, int64_t j, int64_t columns, T* to) {
  constexpr int64_t kWidth = kVectors * Simd<T, kBytes>::kLanes;
  if (columns < kWidth) std::fill_n(to, a.in * kWidth, T(0));
  if (a.transpose) {
    transpose(a.weight + j * a.in, columns, a.in, to, kWidth);
  } else if (columns == kWidth) {
    copy_rows<T, kBytes, kVectors>(a.weight + j, a.out, a.in, to);
  } else {
    for (int64_t p = 0; p < a.in; ++p) std::copy_n(a.weight + p * a.out + j, columns, to + p * kWidth);
  }
}

/// y's columns [j, j + columns), at most kVectors vectors.
template <class T, int kBytes, int kVectors>
MOEUT_INLINE void panel_product(const RowProduct<T>& a, int64_t j, int64_t columns, T* buffer) {
  constexpr int64_t kWidth = kVectors * Simd<T, kBytes>::kLanes;
  const bool direct = !a.transpose && a.rows <= kDirectRows && columns == kWidth;
  if (!direct) copy_panel<T, kBytes, kVectors>(a, j, columns, buffer);
  Panel<T> panel{direct ? a.weight + j : buffer, direct ? a.out : kWidth, j, columns, nullptr, 0};
  const bool last = j + columns == a.out;  // of the next expert, perhaps, whose matrix lies behind this one
  if (a.transpose) {
    panel.ahead = a.weight + (j + columns) * a.in;
    panel.ahead_ld = kWidth;
  } else {
    panel.ahead = a.weight + (last ? a.in * a.out : j + columns) + kWidth - 1;
    panel.ahead_ld = a.out;
  }
  all_rows<T, kBytes, kVectors>(a, panel);
}

template <class T, int kBytes>
MOEUT_INLINE void product(const RowProduct<T>& a, T* buffer) {
  constexpr int64_t kLanes = Simd<T, kBytes>::kLanes;
  for (int64_t j = 0; j < a.out; j += 2 * kLanes) {
    const int64_t columns = std::min(2 * kLanes, a.out - j);
    columns > kLanes ? panel_product<T, kBytes, 2>(a, j, columns, buffer)
                     : panel_product<T, kBytes, 1>(a, j, columns, buffer);
  }
}

#if defined(__x86_64__)
template <class T>
__attribute__((target("avx512f,avx512vl,fma"))) void product_avx512(const RowProduct<T>& a, T* buffer) {
  product<T, 64>(a, buffer);
}
template <class T>
__attribute__((target("avx2,fma"))) void product_avx2(const RowProduct<T>& a, T* buffer) {
  product<T, 32>(a, buffer);
}
#endif
template <class T>
void product_baseline(const RowProduct<T>& a, T* buffer) {
  product<T, 16>(a, buffer);
}

template <class T>
using Function = void (*)(const RowProduct<T>&, T*);

template <class T>
Function<T> fastest() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")) return product_avx512<T>;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return product_avx2<T>;
#endif
  return product_baseline<T>;
}

template <class T>
void on_this_machine(const RowProduct<T>& a, T* buffer) {
  static const Function<T> function = fastest<T>();
  function(a, buffer);
}

}  // namespace

int64_t row_product_buffer(int64_t in) {
  return in * kWidestPanel;
}

void row_product(const RowProduct<float>& a, float* buffer) {
  on_this_machine(a, buffer);
}
void row_product(const RowProduct<double>& a, double* buffer) {
  on_this_machine(a, buffer);
}

}  // namespace moeut::kernels
