// CVMM on the CPU: pieces of one expert's pairs, rows gathered into a thread's buffer, one BLAS call a piece.
#include "kernels/cvmm.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/gemm.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kPieceRows = 128;

struct Piece {
  int64_t expert, begin, end;  ///< sorted places
};

/// At most kPieceRows places a piece; depends on the route alone.
std::vector<Piece> pieces_of(const Route& route) {
  std::vector<Piece> pieces;
  for (int64_t e = 0; e < route.experts; ++e) {
    for (int64_t r = route.offsets[e]; r < route.offsets[e + 1]; r += kPieceRows) {
      pieces.push_back({e, r, std::min<int64_t>(r + kPieceRows, route.offsets[e + 1])});
    }
  }
  return pieces;
}

/// The rows of places [begin, end): the operand itself where it is sorted and ungated, else a copy in `buffer`.
template <class T>
struct Rows {
  const T* data;
  int64_t ld;
};
template <class T>
Rows<T> gather(const Route& route, const PairRows<T>& x, int64_t width, int64_t begin, int64_t end, T* buffer) {
  if (x.divisor == 0 && x.gate == nullptr) return {x.data + begin * x.ld, x.ld};
  for (int64_t r = begin; r < end; ++r) {
    const int64_t pair = route.order[r];
    const T* from = x.data + (x.divisor == 0 ? r : pair / x.divisor) * x.ld;
    T* to = buffer + (r - begin) * width;
    if (x.gate == nullptr) {
      std::copy_n(from, width, to);
    } else {
      const T gate = x.gate[pair];
      for (int64_t j = 0; j < width; ++j) to[j] = gate * from[j];
    }
  }
  return {buffer, width};
}

template <class T>
void relu(T* y, int64_t rows, int64_t width, int64_t ld) {
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < width; ++j) y[i * ld + j] = std::max(y[i * ld + j], T(0));
  }
}

}  // namespace

template <class T>
size_t cvmm_workspace_bytes(Cpu, int64_t in, int64_t) {
  return static_cast<size_t>(thread_count() * kPieceRows * in) * sizeof(T);
}

template <class T>
void cvmm(Cpu, const Launch& launch, const Cvmm<T>& c) {
  const std::vector<Piece> pieces = pieces_of(c.route);
  T* buffers = static_cast<T*>(launch.workspace);
  parallel_pieces(static_cast<int64_t>(pieces.size()), [&](int64_t i, int thread) {
    const Piece& p = pieces[static_cast<size_t>(i)];
    const Rows<T> x = gather(c.route, c.x, c.in, p.begin, p.end, buffers + thread * kPieceRows * c.in);
    T* y = c.y + p.begin * c.ldy;
    gemm_serial<T>({.m = p.end - p.begin, .n = c.out, .k = c.in, .a = x.data, .lda = x.ld, .b = c.weight + p.expert * c.in * c.out,
                    .ldb = c.transpose ? c.in : c.out, .transpose_b = c.transpose, .c = y, .ldc = c.ldy});
    if (c.relu) relu(y, p.end - p.begin, c.out, c.ldy);
  });
}

template <class T>
size_t cvmm_weight_gradient_workspace_bytes(Cpu, int64_t in, int64_t out) {
  return static_cast<size_t>(thread_count() * kPieceRows * (in + out)) * sizeof(T);
}

template <class T>
void cvmm_weight_gradient(Cpu, const Launch& launch, const CvmmWeightGradient<T>& g) {
  T* buffers = static_cast<T*>(launch.workspace);
  parallel_pieces(g.experts, [&](int64_t e, int thread) {
    T* buffer_a = buffers + thread * kPieceRows * (g.in + g.out);
    T* buffer_b = buffer_a + kPieceRows * g.in;
    Gemm<T> product{.m = g.in, .n = g.out, .transpose_a = true, .c = g.dweight + e * g.in * g.out, .ldc = g.out, .mode = g.mode};
    for (const CvmmWeightPart<T>& part : g.parts) {
      for (int64_t r = part.route.offsets[e]; r < part.route.offsets[e + 1]; r += kPieceRows) {
        const int64_t end = std::min<int64_t>(r + kPieceRows, part.route.offsets[e + 1]);
        const Rows<T> a = gather(part.route, part.a, g.in, r, end, buffer_a), b = gather(part.route, part.b, g.out, r, end, buffer_b);
        product.k = end - r;
        product.a = a.data, product.lda = a.ld;
        product.b = b.data, product.ldb = b.ld;
        gemm_serial(product);
        product.mode = Mode::accumulate;
      }
    }
    if (product.mode == Mode::overwrite) std::fill_n(product.c, g.in * g.out, T(0));  // an expert without pairs
  });
}

template <class T>
void cvmm_combine(Cpu, const Launch&, const CvmmCombine<T>& c) {
  parallel_blocks(c.route.pairs / c.group, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* out = c.out + i * c.ldout;
      for (int64_t j = 0; j < c.group; ++j) {
        const int64_t pair = i * c.group + j;
        const T gate = c.gate == nullptr ? T(1) : c.gate[pair];
        const T* y = c.y + c.route.place[pair] * c.ldy;
        if (j == 0 && c.mode == Mode::overwrite) {
          for (int64_t k = 0; k < c.width; ++k) out[k] = gate * y[k];
        } else {
          for (int64_t k = 0; k < c.width; ++k) out[k] += gate * y[k];
        }
      }
    }
  });
}

namespace {

/// A sum in eight fixed lanes, so that it vectorises without reordering by the compiler.
template <class T>
T dot(const T* a, const T* b, int64_t n) {
  T lanes[8] = {};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int64_t l = 0; l < 8; ++l) lanes[l] += a[i + l] * b[i + l];
  }
  for (; i < n; ++i) lanes[0] += a[i] * b[i];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

}  // namespace

template <class T>
void cvmm_gate_gradient(Cpu, const Launch&, const CvmmGateGradient<T>& g) {
  parallel_blocks(g.route.pairs, 64, [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t place = g.route.place[pair];
      const T* x = g.x.data + (g.x.divisor == 0 ? place : pair / g.x.divisor) * g.x.ld;
      g.dgate[pair] = dot(g.y + place * g.ldy, x, g.width);
    }
  });
}

template <class T>
void cvmm_hidden_backward(Cpu, const Launch&, const CvmmHiddenBackward<T>& b) {
  parallel_blocks(b.route.pairs, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t pair = b.route.order[r];
      const T* h = b.h + r * b.width;
      T* da = b.da + r * b.width;
      const T gate = b.gate[pair];
      b.dgate[pair] = dot(da, h, b.width);
      for (int64_t j = 0; j < b.width; ++j) da[j] = h[j] > T(0) ? gate * da[j] : T(0);
    }
  });
}

#define MOEUT_INSTANTIATE(T)                                                             \
  template size_t cvmm_workspace_bytes<T>(Cpu, int64_t, int64_t);                        \
  template void cvmm(Cpu, const Launch&, const Cvmm<T>&);                                \
  template size_t cvmm_weight_gradient_workspace_bytes<T>(Cpu, int64_t, int64_t);        \
  template void cvmm_weight_gradient(Cpu, const Launch&, const CvmmWeightGradient<T>&);  \
  template void cvmm_combine(Cpu, const Launch&, const CvmmCombine<T>&);                 \
  template void cvmm_gate_gradient(Cpu, const Launch&, const CvmmGateGradient<T>&);      \
  template void cvmm_hidden_backward(Cpu, const Launch&, const CvmmHiddenBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
