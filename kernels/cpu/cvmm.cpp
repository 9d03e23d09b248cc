// The products of CVMM on the CPU: pieces of one expert's pairs, forward by row_product, which reads the rows where
// they lie, and the weight's gradient by BLAS. What works row by row is in cvmm_rows.cpp.
#include "kernels/cvmm.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/cvmm_narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cpu/row_product.h"
#include "kernels/gemm.h"

namespace moeut::kernels {

namespace {

/// Rows of one product. Enough that the copy of the expert's matrix is paid; more would leave less to share out.
constexpr int64_t kPieceRows = 128;
/// Rows of one product of a weight gradient (they are the inner dimension there).
constexpr int64_t kChunkRows = 256;

/// Consecutive sorted places of one expert.
struct Piece {
  int64_t expert, begin, end;
  int64_t size() const { return end - begin; }
};

/// Numbers the pieces of a route without a list of them: expert e's pieces begin at number offsets[e] / kPieceRows + e,
/// which leaves each expert as many numbers as it needs, and a few that stand for nothing. Depends on the route alone.
class Pieces {
 public:
  explicit Pieces(const Route& route) : route_(route) {}

  int64_t count() const { return route_.experts + route_.pairs / kPieceRows; }

  /// Empty (begin >= end) for a number that stands for nothing.
  Piece operator[](int64_t number) const {
    int64_t low = 0, high = route_.experts;  // the expert is in [low, high)
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (first_number(middle) <= number ? low : high) = middle;
    }
    const int64_t begin = route_.offsets[low] + (number - first_number(low)) * kPieceRows;
    return {low, begin, std::min<int64_t>(begin + kPieceRows, route_.offsets[low + 1])};
  }

 private:
  int64_t first_number(int64_t expert) const { return route_.offsets[expert] / kPieceRows + expert; }

  const Route& route_;
};

/// Where the row of sorted place r lies.
template <class T>
const T* row_at(const Route& route, const PairRows<T>& x, int64_t r) {
  return x.data + (x.divisor == 0 ? r : route.order[r] / x.divisor) * x.ld;
}

template <class T>
void piece_product(const Cvmm<T>& c, const Piece& piece, T* buffer) {
  const T* x[kPieceRows];
  T scale[kPieceRows];
  for (int64_t i = 0; i < piece.size(); ++i) {
    x[i] = row_at(c.route, c.x, piece.begin + i);
    if (c.x.gate != nullptr) scale[i] = c.x.gate[c.route.order[piece.begin + i]];
  }
  row_product({.rows = piece.size(),
               .in = c.in,
               .out = c.out,
               .x = x,
               .scale = c.x.gate == nullptr ? nullptr : scale,
               .weight = c.weight + piece.expert * c.in * c.out,
               .transpose = c.transpose,
               .relu = c.relu,
               .y = c.y + piece.begin * c.ldy,
               .ldy = c.ldy},
              buffer);
}

}  // namespace

template <class T>
size_t cvmm_workspace_bytes(Cpu, const Route&, int64_t in, int64_t) {
  return static_cast<size_t>(thread_count() * row_product_buffer(in)) * sizeof(Wide<T>);
}

template <class T>
void cvmm(Cpu tag, const Launch& launch, const Cvmm<T>& c) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    cvmm<float>(tag, launch,
                {.route = c.route,
                 .in = c.in,
                 .out = c.out,
                 .x = widen_gated(f, c.x, c.route, c.in),
                 .weight = f.in(c.weight, c.route.experts * c.in * c.out),
                 .transpose = c.transpose,
                 .relu = c.relu,
                 .y = f.out(c.y, extent(c.route.pairs, c.out, c.ldy), c.ldy != c.out),
                 .ldy = c.ldy});
  } else {
    const Pieces pieces(c.route);
    parallel_pieces(pieces.count(), [&](int64_t number, int thread) {
      const Piece piece = pieces[number];
      if (piece.size() > 0)
        piece_product(c, piece, static_cast<T*>(launch.workspace) + thread * row_product_buffer(c.in));
    });
  }
}

namespace {

/// Copies the rows of a piece, times their gates, into `to` (dense).
template <class T>
void gather(const Route& route, const PairRows<T>& x, int64_t width, const Piece& piece, T* to) {
  for (int64_t r = piece.begin; r < piece.end; ++r, to += width) {
    const T* from = row_at(route, x, r);
    if (x.gate == nullptr) {
      std::memcpy(to, from, static_cast<size_t>(width) * sizeof(T));
    } else {
      scale_row(from, to, width, x.gate[route.order[r]]);
    }
  }
}

/// Collects the rows of one expert from all parts and adds their product to dW whenever the buffers are full: dW is
/// read and written once for kChunkRows rows, however few of them each part brings.
template <class T>
class OuterProduct {
 public:
  OuterProduct(const CvmmWeightGradient<T>& g, int64_t expert, T* workspace)
      : g_(g), expert_(expert), a_(workspace), b_(workspace + kChunkRows * g.in), mode_(g.mode) {}

  void add(const CvmmWeightPart<T>& part) {
    const int32_t* offsets = part.route.offsets;
    for (int64_t r = offsets[expert_]; r < offsets[expert_ + 1];) {
      const int64_t end = std::min<int64_t>(r + kChunkRows - rows_, offsets[expert_ + 1]);
      gather(part.route, part.a, g_.in, {expert_, r, end}, a_ + rows_ * g_.in);
      gather(part.route, part.b, g_.out, {expert_, r, end}, b_ + rows_ * g_.out);
      rows_ += end - r;
      r = end;
      if (rows_ == kChunkRows) flush();
    }
  }

  /// To be called at the end. An expert without pairs gets its zeros here.
  void finish() {
    if (rows_ > 0 || mode_ == Mode::overwrite) flush();
  }

 private:
  void flush() {
    gemm_serial<T>({.m = g_.in,
                    .n = g_.out,
                    .k = rows_,
                    .a = a_,
                    .lda = g_.in,
                    .transpose_a = true,
                    .b = b_,
                    .ldb = g_.out,
                    .c = g_.dweight + expert_ * g_.in * g_.out,
                    .ldc = g_.out,
                    .mode = mode_});
    mode_ = Mode::accumulate;
    rows_ = 0;
  }

  const CvmmWeightGradient<T>& g_;
  int64_t expert_;
  T *a_, *b_;
  Mode mode_;
  int64_t rows_ = 0;
};

}  // namespace

template <class T>
size_t cvmm_weight_gradient_workspace_bytes(Cpu, const CvmmWeightGradient<T>& g) {
  return static_cast<size_t>(thread_count() * kChunkRows * (g.in + g.out)) * sizeof(Wide<T>);
}

template <class T>
void cvmm_weight_gradient(Cpu tag, const Launch& launch, const CvmmWeightGradient<T>& g) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    std::vector<CvmmWeightPart<float>> parts;
    for (const CvmmWeightPart<T>& p : g.parts)
      parts.push_back({p.route, widen_gated(f, p.a, p.route, g.in), widen_gated(f, p.b, p.route, g.out)});
    cvmm_weight_gradient<float>(
        tag, launch,
        {.experts = g.experts, .in = g.in, .out = g.out, .parts = parts, .dweight = g.dweight, .mode = g.mode});
  } else {
    parallel_pieces(g.experts, [&](int64_t expert, int thread) {
      T* workspace = static_cast<T*>(launch.workspace) + thread * kChunkRows * (g.in + g.out);
      OuterProduct<T> product(g, expert, workspace);
      for (const CvmmWeightPart<T>& part : g.parts) product.add(part);
      product.finish();
    });
  }
}

#define MOEUT_INSTANTIATE(T)                                                                  \
  template size_t cvmm_workspace_bytes<T>(Cpu, const Route&, int64_t, int64_t);               \
  template void cvmm<T>(Cpu, const Launch&, const Cvmm<T>&);                                  \
  template size_t cvmm_weight_gradient_workspace_bytes<T>(Cpu, const CvmmWeightGradient<T>&); \
  template void cvmm_weight_gradient(Cpu, const Launch&, const CvmmWeightGradient<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
