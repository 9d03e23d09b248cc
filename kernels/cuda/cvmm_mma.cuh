// CVMM on tensor cores for 16-bit numbers. A block of 8 warps computes a tile of 128 x 128, each warp 64 x 32 of it;
// the summed dimension comes 32 at a time through a ring of kStages tiles, filled by cp.async with the gather inside.
#pragma once

#include "kernels/cuda/cvmm_tiles.cuh"
#include "kernels/cuda/cvmm_weight.cuh"
#include "kernels/cuda/mma.cuh"

namespace moeut::kernels::cuda {

constexpr int kMmaTile = 128;
constexpr int kMmaDepth = 32;
constexpr int kMmaThreads = 256;
constexpr int kMmaStages = 4;

/// Tiles of one operand: rows of the tile by depth, or depth by columns, as it lies in memory.
using TallTile = SharedTile<kMmaTile, kMmaDepth>;
using WideTile = SharedTile<kMmaDepth, kMmaTile>;
static_assert(TallTile::kBytes == WideTile::kBytes);
constexpr int kStageBytes = 2 * TallTile::kBytes;
constexpr int kMmaSharedBytes = kMmaStages * kStageBytes;

/// A warp's 64 x 32: 4 x 4 results of mma.
using WarpSums = float[4][4][4];

/// First row and column of the warp's part of the tile.
__device__ inline int warp_row() {
  return threadIdx.x / 32 % 2 * 64;
}
__device__ inline int warp_column() {
  return threadIdx.x / 64 * 32;
}

/// Adds the product of one stage. kTallA: A lies as (128, 32), else as (32, 128); kTallB: B as (128 columns, 32), else
/// as (32, 128 columns).
template <class T, bool kTallA, bool kTallB>
__device__ inline void multiply_stage(WarpSums& sums, uint32_t a_base, uint32_t b_base) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < kMmaDepth; k += 16) {
    uint32_t a[4][4], b[2][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int row = warp_row() + i * 16;
      const uint32_t at = kTallA ? TallTile::offset(row + lane % 16, k / 8 + lane / 16)
                                 : WideTile::offset(k + lane / 16 * 8 + lane % 8, row / 8 + lane / 8 % 2);
      load_matrices<!kTallA>(a[i], a_base + at);
    }
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int column = warp_column() + j * 16;
      const uint32_t at = kTallB ? TallTile::offset(column + lane / 16 * 8 + lane % 8, k / 8 + lane / 8 % 2)
                                 : WideTile::offset(k + lane % 16, column / 8 + lane / 16);
      load_matrices<!kTallB>(b[j], b_base + at);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) mma<T>(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
}

/// f(row, column, first, second) for each pair of neighbouring results of this thread; columns are even.
template <class F>
__device__ inline void for_each_result(const WarpSums& sums, F&& f) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int row = warp_row() + i * 16 + lane / 4, column = warp_column() + j * 8 + lane % 4 * 2;
      f(row, column, sums[i][j][0], sums[i][j][1]);
      f(row + 8, column, sums[i][j][2], sums[i][j][3]);
    }
  }
}

/// Two neighbours as one store.
template <class T>
__device__ inline void store_pair(T* to, float first, float second) {
  *reinterpret_cast<uint32_t*>(to) = pack<T>(first, second);
}

// ---------------------------------------------------------------- forward and d-input

template <class T, int kCopy>
struct CvmmTileLoader {
  const Cvmm<T>& a;
  const RowPointer<T>* rows;  // of the tile, in shared memory
  int count;
  const T* weight;
  int64_t column0;

  /// Starts the copies of stage k0: rows of x (128, 32), and of W (32, 128) or, transposed, (128, 32).
  __device__ void load(uint32_t stage, int64_t k0) const {
    constexpr int kElements = kCopy / 2, kParts = 16 / kCopy;
    constexpr int kPieces = TallTile::kBytes / kCopy;
    for (int i = threadIdx.x; i < kPieces; i += kMmaThreads) {
      const int part = i % kParts, chunk = i / kParts % TallTile::kChunks, row = i / kParts / TallTile::kChunks;
      const int64_t k = k0 + chunk * 8 + part * kElements;
      const bool there = row < count && k < a.in;
      copy_async<kCopy>(stage + TallTile::offset(row, chunk) + part * kCopy, there ? rows[row].data + k : a.x.data,
                        there);
    }
    const uint32_t second = stage + TallTile::kBytes;
    for (int i = threadIdx.x; i < kPieces; i += kMmaThreads) {
      const int part = i % kParts;
      if (a.transpose) {
        const int chunk = i / kParts % TallTile::kChunks, row = i / kParts / TallTile::kChunks;
        const int64_t k = k0 + chunk * 8 + part * kElements, column = column0 + row;
        const bool there = column < a.out && k < a.in;
        copy_async<kCopy>(second + TallTile::offset(row, chunk) + part * kCopy,
                          there ? weight + column * a.in + k : weight, there);
      } else {
        const int chunk = i / kParts % WideTile::kChunks, row = i / kParts / WideTile::kChunks;
        const int64_t k = k0 + row, column = column0 + chunk * 8 + part * kElements;
        const bool there = column < a.out && k < a.in;
        copy_async<kCopy>(second + WideTile::offset(row, chunk) + part * kCopy,
                          there ? weight + k * a.out + column : weight, there);
      }
    }
  }
};

/// The same with copies of 16 bytes: each thread has two pieces of either operand, whose places it works out once.
template <class T, bool kTransposed>
class CvmmPieceLoader {
 public:
  __device__ CvmmPieceLoader(const Cvmm<T>& a, const RowPointer<T>* rows, int count, const T* weight, int64_t column0)
      : in_(static_cast<int>(a.in)) {
    const int tid = static_cast<int>(threadIdx.x);
    const int row = tid / TallTile::kChunks, chunk = tid % TallTile::kChunks;
    depth_a_ = chunk * 8;
    for (int i = 0; i < 2; ++i) {
      const int r = row + i * kTallRows;
      there_a_[i] = r < count;
      a_[i] = there_a_[i] ? rows[r].data + depth_a_ : a.x.data;
      to_a_[i] = TallTile::offset(r, chunk);
    }
    if constexpr (kTransposed) {
      depth_b_[0] = depth_b_[1] = depth_a_;
      step_b_ = kMmaDepth;
      for (int i = 0; i < 2; ++i) {
        const int64_t column = column0 + row + i * kTallRows;
        there_b_[i] = column < a.out;
        b_[i] = there_b_[i] ? weight + column * a.in + depth_a_ : weight;
        to_b_[i] = TallTile::kBytes + TallTile::offset(row + i * kTallRows, chunk);
      }
    } else {
      const int k = tid / WideTile::kChunks, wide_chunk = tid % WideTile::kChunks;
      step_b_ = kMmaDepth * a.out;
      const int64_t column = column0 + wide_chunk * 8;
      for (int i = 0; i < 2; ++i) {
        depth_b_[i] = k + i * kWideRows;
        there_b_[i] = column < a.out;
        b_[i] = there_b_[i] ? weight + depth_b_[i] * a.out + column : weight;
        to_b_[i] = TallTile::kBytes + WideTile::offset(depth_b_[i], wide_chunk);
      }
    }
  }

  /// The next stage, from summed place k0 on; to be called for one stage after the other.
  __device__ void load(uint32_t stage, int k0) {
    const bool inside_a = k0 + depth_a_ < in_;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_async<16>(stage + to_a_[i], a_[i], there_a_[i] && inside_a);
      a_[i] += kMmaDepth;
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      copy_async<16>(stage + to_b_[i], b_[i], there_b_[i] && k0 + depth_b_[i] < in_);
      b_[i] += step_b_;
    }
  }

 private:
  static constexpr int kTallRows = kMmaThreads / TallTile::kChunks, kWideRows = kMmaThreads / WideTile::kChunks;
  int in_, depth_a_, depth_b_[2];
  const T *a_[2], *b_[2];
  uint32_t to_a_[2], to_b_[2];
  bool there_a_[2], there_b_[2];
  int64_t step_b_;
};

/// Either of the two.
template <class T, int kCopy, bool kTransposed>
struct CvmmLoader {
  CvmmTileLoader<T, kCopy> tile;
  __device__ CvmmLoader(const Cvmm<T>& a, const RowPointer<T>* rows, int count, const T* weight, int64_t column0)
      : tile{a, rows, count, weight, column0} {}
  __device__ void load(uint32_t stage, int k0) const { tile.load(stage, k0); }
};
template <class T, bool kTransposed>
struct CvmmLoader<T, 16, kTransposed> : CvmmPieceLoader<T, kTransposed> {
  using CvmmPieceLoader<T, kTransposed>::CvmmPieceLoader;
};

/// Blocks are numbered column tile by column tile of one row tile, so that its rows are read from L2.
template <class T, int kCopy, bool kTransposed>
__global__ void __launch_bounds__(kMmaThreads, 2)
    cvmm_mma_kernel(Cvmm<T> a, const int32_t* tile_expert, const int32_t* tile_first, int column_tiles) {
  extern __shared__ __align__(128) char shared[];
  __shared__ RowPointer<T> rows[kMmaTile];
  const int64_t expert = tile_expert[blockIdx.x / column_tiles];
  if (expert < 0) return;
  const int64_t first = tile_first[blockIdx.x / column_tiles], end = a.route.offsets[expert + 1];
  const int count = static_cast<int>(end - first < kMmaTile ? end - first : kMmaTile);
  const int64_t column0 = static_cast<int64_t>(blockIdx.x % column_tiles) * kMmaTile;
  for (int i = threadIdx.x; i < count; i += kMmaThreads) rows[i] = row_pointer(a.x, a.route, first + i);
  __syncthreads();
  CvmmLoader<T, kCopy, kTransposed> loader(a, rows, count, a.weight + expert * a.in * a.out, column0);
  const uint32_t base = shared_address(shared);
  const int steps = static_cast<int>(ceil_div(a.in, kMmaDepth));
  for (int s = 0; s < kMmaStages - 1; ++s) {
    if (s < steps) loader.load(base + s * kStageBytes, s * kMmaDepth);
    commit_copies();
  }
  WarpSums sums = {};
  for (int s = 0; s < steps; ++s) {
    wait_for_copies<kMmaStages - 2>();
    __syncthreads();  // this stage has arrived, and the one that is filled next has been read by all
    const int next = s + kMmaStages - 1;
    if (next < steps) loader.load(base + next % kMmaStages * kStageBytes, next * kMmaDepth);
    commit_copies();
    const uint32_t stage = base + s % kMmaStages * kStageBytes;
    multiply_stage<T, true, kTransposed>(sums, stage, stage + TallTile::kBytes);
  }
  for_each_result(sums, [&](int row, int column, float x, float y) {
    if (row >= count || column0 + column >= a.out) return;
    x *= rows[row].gate;
    y *= rows[row].gate;
    if (a.relu) {
      x = x < 0 ? 0 : x;
      y = y < 0 ? 0 : y;
    }
    store_pair(a.y + (first + row) * a.ldy + column0 + column, x, y);
  });
}

// ---------------------------------------------------------------- d-weight

/// One operand's 32 rows by 128 columns of a stage.
template <class T, int kCopy>
__device__ inline void copy_pair_rows(uint32_t to, const T* const (&rows)[kMmaDepth], const T* somewhere,
                                      int64_t column0, int64_t width) {
  constexpr int kElements = kCopy / 2, kParts = 16 / kCopy;
  for (int i = threadIdx.x; i < WideTile::kBytes / kCopy; i += kMmaThreads) {
    const int part = i % kParts, chunk = i / kParts % WideTile::kChunks, row = i / kParts / WideTile::kChunks;
    const int64_t column = column0 + chunk * 8 + part * kElements;
    const bool there = rows[row] != nullptr && column < width;
    copy_async<kCopy>(to + WideTile::offset(row, chunk) + part * kCopy, there ? rows[row] + column : somewhere, there);
  }
}

/// A block owns a 128 x 128 tile of one expert's dW and adds all its rows, part by part in order.
template <class T, int kCopy>
__global__ void __launch_bounds__(kMmaThreads, 2)
    weight_gradient_mma_kernel(int64_t in, int64_t out, WeightParts<T> parts, float* dweight, Mode mode) {
  extern __shared__ __align__(128) char shared[];
  __shared__ StageRows<T, kMmaDepth> rows[2];
  const int64_t expert = blockIdx.z, row0 = static_cast<int64_t>(blockIdx.y) * kMmaTile;
  const int64_t column0 = static_cast<int64_t>(blockIdx.x) * kMmaTile;
  const uint32_t base = shared_address(shared);
  const T* somewhere = parts.part[0].a.data;
  StageFinder<T, kMmaDepth> finder(parts, expert);
  int loaded = 0, done = 0;
  const auto load = [&] {  // the stage whose rows were found before the last barrier
    if (loaded >= finder.found()) return;
    const uint32_t stage = base + loaded % kMmaStages * kStageBytes;
    copy_pair_rows<T, kCopy>(stage, rows[loaded % 2].a, somewhere, row0, in);
    copy_pair_rows<T, kCopy>(stage + WideTile::kBytes, rows[loaded % 2].b, somewhere, column0, out);
    ++loaded;
  };
  finder.find(rows);
  __syncthreads();
  for (int s = 0; s < kMmaStages - 1; ++s) {
    load();
    commit_copies();
    finder.find(rows);
    __syncthreads();
  }
  WarpSums sums = {};
  while (done < loaded) {
    wait_for_copies<kMmaStages - 2>();
    __syncthreads();
    load();
    commit_copies();
    const uint32_t stage = base + done % kMmaStages * kStageBytes;
    multiply_stage<T, false, false>(sums, stage, stage + WideTile::kBytes);
    ++done;
    finder.find(rows);
  }
  for_each_result(sums, [&](int row, int column, float x, float y) {
    if (row0 + row >= in || column0 + column >= out) return;
    store_two(dweight + (expert * in + row0 + row) * out + column0 + column, x, y, mode);
  });
}

}  // namespace moeut::kernels::cuda
