// CVMM in full precision: tiles of a matrix product on the ordinary cores, gather, scatter and gate inside, no atomics.
#include <algorithm>

#include "kernels/cuda/cvmm_paths.h"
#include "kernels/cuda/cvmm_tiles.cuh"

namespace moeut::kernels::cuda {

namespace {

// A block of 16 x 16 threads computes a tile of 64 x 64, each thread 4 x 4 of it, 16 of the summed dimension at a time.
constexpr int kTile = kPlainTile;
constexpr int kDepth = 16;
constexpr int kSide = 16;
constexpr int kEach = kTile / kSide;
constexpr int kThreads = kSide * kSide;

template <class T>
struct Tiles {
  Wide<T> a[kDepth][kTile + 4];  // a[k][row], b[k][column]; the 4 keep columns apart in banks and 16-byte aligned
  Wide<T> b[kDepth][kTile + 4];
};

/// sum[i][j] += Σ_k a[k][row_i] · b[k][column_j] over the loaded depth.
template <class T>
__device__ inline void multiply(const Tiles<T>& tiles, Wide<T> (&sum)[kEach][kEach]) {
  const int ty = threadIdx.x / kSide, tx = threadIdx.x % kSide;
#pragma unroll
  for (int k = 0; k < kDepth; ++k) {
    Wide<T> a[kEach], b[kEach];
#pragma unroll
    for (int i = 0; i < kEach; ++i) a[i] = tiles.a[k][ty * kEach + i];
#pragma unroll
    for (int j = 0; j < kEach; ++j) b[j] = tiles.b[k][tx * kEach + j];
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
#pragma unroll
      for (int j = 0; j < kEach; ++j) sum[i][j] += a[i] * b[j];
    }
  }
}

/// Element i of a row: the product with the gate is rounded as it would be if it were stored.
template <class T>
__device__ Wide<T> operand(const RowPointer<T>& row, int64_t i) {
  const Wide<T> product = row.gate * Wide<T>(row.data[i]);
  return kIsNarrow<T> && row.gate != Wide<T>(1) ? Wide<T>(T(product)) : product;
}

// ---------------------------------------------------------------- forward and d-input

template <class T>
__global__ void __launch_bounds__(kThreads) cvmm_kernel(Cvmm<T> a, TileList list) {
  __shared__ Tiles<T> tiles;
  __shared__ RowPointer<T> rows[kTile];
  const int64_t expert = list.expert[blockIdx.x];
  if (expert < 0) return;
  const int64_t first = list.first[blockIdx.x], end = a.route.offsets[expert + 1];
  const int count = static_cast<int>(end - first < kTile ? end - first : kTile);
  const int64_t column0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const T* weight = a.weight + expert * a.in * a.out;
  for (int i = threadIdx.x; i < count; i += kThreads) rows[i] = row_pointer(a.x, a.route, first + i);
  Wide<T> sum[kEach][kEach] = {};
  for (int64_t k0 = 0; k0 < a.in; k0 += kDepth) {
    __syncthreads();
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int row = i / kDepth, k = i % kDepth;
      tiles.a[k][row] = row < count && k0 + k < a.in ? operand(rows[row], k0 + k) : Wide<T>(0);
    }
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      // Neighbouring threads read neighbouring elements, whichever way the weight lies.
      const int column = a.transpose ? i / kDepth : i % kTile, k = a.transpose ? i % kDepth : i / kTile;
      const bool inside = column0 + column < a.out && k0 + k < a.in;
      const int64_t at = a.transpose ? (column0 + column) * a.in + k0 + k : (k0 + k) * a.out + column0 + column;
      tiles.b[k][column] = inside ? Wide<T>(weight[at]) : Wide<T>(0);
    }
    __syncthreads();
    multiply(tiles, sum);
  }
  const int ty = threadIdx.x / kSide, tx = threadIdx.x % kSide;
  for (int i = 0; i < kEach; ++i) {
    const int row = ty * kEach + i;
    for (int j = 0; row < count && j < kEach; ++j) {
      const int64_t column = column0 + tx * kEach + j;
      const Wide<T> value = a.relu && sum[i][j] < Wide<T>(0) ? Wide<T>(0) : sum[i][j];
      if (column < a.out) a.y[(first + row) * a.ldy + column] = T(value);
    }
  }
}

// ---------------------------------------------------------------- d-weight

constexpr int kParts = 16;  // of one launch

template <class T>
struct Parts {
  CvmmWeightPart<T> part[kParts];
  int count = 0;
};

/// A block owns a 64 x 64 tile of one expert's dW and adds all its rows, part by part in order.
template <class T>
__global__ void __launch_bounds__(kThreads)
    weight_gradient_kernel(int64_t in, int64_t out, Parts<T> parts, Wide<T>* dweight, Mode mode) {
  __shared__ Tiles<T> tiles;
  const int64_t expert = blockIdx.z, row0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t column0 = static_cast<int64_t>(blockIdx.x) * kTile;
  Wide<T> sum[kEach][kEach] = {};
  for (int p = 0; p < parts.count; ++p) {
    const CvmmWeightPart<T>& part = parts.part[p];
    const int64_t first = part.route.offsets[expert], end = part.route.offsets[expert + 1];
    for (int64_t r0 = first; r0 < end; r0 += kDepth) {
      __syncthreads();
      for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
        const int k = i / kTile, column = i % kTile;
        const bool row_there = r0 + k < end;
        Wide<T> left = 0, right = 0;
        if (row_there && row0 + column < in) {
          left = operand(row_pointer(part.a, part.route, r0 + k), row0 + column);
        }
        if (row_there && column0 + column < out) {
          right = operand(row_pointer(part.b, part.route, r0 + k), column0 + column);
        }
        tiles.a[k][column] = left;
        tiles.b[k][column] = right;
      }
      __syncthreads();
      multiply(tiles, sum);
    }
  }
  const int ty = threadIdx.x / kSide, tx = threadIdx.x % kSide;
  for (int i = 0; i < kEach; ++i) {
    for (int j = 0; j < kEach; ++j) {
      const int64_t row = row0 + ty * kEach + i, column = column0 + tx * kEach + j;
      if (row < in && column < out) store(dweight + (expert * in + row) * out + column, sum[i][j], mode);
    }
  }
}

}  // namespace

template <class T>
void cvmm_plain(const Launch& launch, const Cvmm<T>& args) {
  const TileList list = list_tiles(launch, args.route, kTile);
  const dim3 grid(static_cast<unsigned>(most_tiles(args.route, kTile)),
                  static_cast<unsigned>(ceil_div(args.out, kTile)));
  cvmm_kernel<T><<<grid, kThreads, 0, stream_of(launch)>>>(args, list);
  check_launch("cvmm");
}

template <class T>
void weight_gradient_plain(const Launch& launch, const CvmmWeightGradient<T>& args) {
  const dim3 grid(static_cast<unsigned>(ceil_div(args.out, kTile)), static_cast<unsigned>(ceil_div(args.in, kTile)),
                  static_cast<unsigned>(args.experts));
  Mode mode = args.mode;
  size_t done = 0;
  do {  // at least once: without parts dW is 0
    Parts<T> parts;
    parts.count = static_cast<int>(std::min<size_t>(kParts, args.parts.size() - done));
    for (int i = 0; i < parts.count; ++i) parts.part[i] = args.parts[done + static_cast<size_t>(i)];
    weight_gradient_kernel<T><<<grid, kThreads, 0, stream_of(launch)>>>(args.in, args.out, parts, args.dweight, mode);
    check_launch("cvmm_weight_gradient");
    mode = Mode::accumulate;
    done += static_cast<size_t>(parts.count);
  } while (done < args.parts.size());
}

#define MOEUT_INSTANTIATE(T)                                  \
  template void cvmm_plain<T>(const Launch&, const Cvmm<T>&); \
  template void weight_gradient_plain<T>(const Launch&, const CvmmWeightGradient<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels::cuda
