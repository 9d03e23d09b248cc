// CVMM on Hopper's tensor cores for 16-bit numbers. A block of two warpgroups computes a tile of 128 x 128, 64 rows
// each; the summed dimension comes 64 at a time through a ring of tiles, filled by cp.async with the gather inside. Two
// blocks share a multiprocessor, so that one multiplies while the other stores.
#pragma once

#include "kernels/cuda/cvmm_tiles.cuh"
#include "kernels/cuda/cvmm_weight.cuh"
#include "kernels/cuda/mma.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace moeut::kernels::cuda {

constexpr int kGmmaTile = 128;
constexpr int kGmmaDepth = 64;
constexpr int kGmmaThreads = 256;
constexpr int kGmmaStages = 3;
constexpr int kGmmaOperandBytes = kGmmaTile * kGmmaDepth * 2;
constexpr int kGmmaStageBytes = 2 * kGmmaOperandBytes;
constexpr int kGmmaSharedBytes = kGmmaStages * kGmmaStageBytes + SwizzledTile::kGroupBytes;  // and to align

/// Bytes from one block of 64 rows to the next where lines hold rows: 64 summed places of 128 bytes.
constexpr int kGmmaBlockBytes = kGmmaDepth * SwizzledTile::kLineBytes;

/// Dynamic shared memory from its first group boundary on.
__device__ inline uint32_t gmma_base(const char* shared) {
  const uint32_t address = shared_address(shared);
  return (address + SwizzledTile::kGroupBytes - 1) / SwizzledTile::kGroupBytes * SwizzledTile::kGroupBytes;
}

/// Copies one 16-byte chunk of shared memory in pieces of kCopy bytes; of the `left` elements of the row from `from` on
/// those beyond the end become zeros.
template <class T, int kCopy>
__device__ inline void copy_chunk(uint32_t to, const T* from, const T* somewhere, bool there, int left) {
#pragma unroll
  for (int part = 0; part < 16 / kCopy; ++part) {
    const bool inside = there && part * kCopy / 2 < left;
    copy_async<kCopy>(to + part * kCopy, inside ? from + part * kCopy / 2 : somewhere, inside);
  }
}

/// Adds the product of one stage to the warpgroup's 64 x 128.
template <class T, bool kRowLinesA, bool kRowLinesB>
__device__ inline void multiply_stage_wgmma(float (&sums)[64], uint32_t stage) {
  const uint32_t group = threadIdx.x / 128;
  const uint32_t a = stage + group * 64 * SwizzledTile::kLineBytes;  // either layout: the second 64 rows, or block
  const uint32_t b = stage + kGmmaOperandBytes;
  begin_wgmma();
#pragma unroll
  for (int k = 0; k < kGmmaDepth; k += 16) {
    const uint32_t along_a = kRowLinesA ? k * SwizzledTile::kLineBytes : k * 2;
    const uint32_t along_b = kRowLinesB ? k * SwizzledTile::kLineBytes : k * 2;
    wgmma<T, kRowLinesA, kRowLinesB>(sums, SwizzledTile::descriptor(a + along_a, kGmmaBlockBytes),
                                     SwizzledTile::descriptor(b + along_b, kGmmaBlockBytes));
  }
  commit_wgmma();
}

/// f(row, column, first, second) for each pair of neighbouring results of this thread; columns are even.
template <class F>
__device__ inline void for_each_wgmma_result(const float (&sums)[64], F&& f) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < 16; ++j) {
    const int column = j * 8 + lane % 4 * 2;
    f(row, column, sums[4 * j], sums[4 * j + 1]);
    f(row + 8, column, sums[4 * j + 2], sums[4 * j + 3]);
  }
}

// ---------------------------------------------------------------- forward and d-input

/// Copies the stages of x and W one after the other; what a thread copies it works out once.
template <class T, int kCopy, bool kTransposed>
class GmmaLoader {
 public:
  __device__ GmmaLoader(const Cvmm<T>& a, const RowPointer<T>* rows, int count, const T* weight, int64_t column0)
      : somewhere_(a.weight), in_(static_cast<int>(a.in)) {
    const int tid = static_cast<int>(threadIdx.x);
    const int line = tid / 8, chunk = tid % 8;
    depth_ = chunk * 8;
    to_a_ = SwizzledTile::offset(line, chunk);
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      there_a_[i] = line + i * kLines < count;
      a_[i] = there_a_[i] ? rows[line + i * kLines].data + depth_ : somewhere_;
    }
    if constexpr (kTransposed) {
      to_b_ = kGmmaOperandBytes + to_a_;
      columns_left_ = static_cast<int>(a.out - column0) - line;
      b_ = weight + (column0 + line) * a.in + depth_;
      between_b_ = kLines * a.in;
      step_b_ = kGmmaDepth;
    } else {
      first_k_ = tid / 16;
      const int wide_chunk = tid % 16;
      to_b_ = kGmmaOperandBytes + wide_chunk / 8 * kGmmaBlockBytes + SwizzledTile::offset(first_k_, wide_chunk % 8);
      columns_left_ = static_cast<int>(a.out - column0) - wide_chunk * 8;
      b_ = weight + first_k_ * a.out + column0 + wide_chunk * 8;
      between_b_ = kRowLines * a.out;
      step_b_ = kGmmaDepth * a.out;
    }
  }

  /// The next stage, from summed place k0 on; to be called for one stage after the other.
  __device__ void load(uint32_t stage, int k0) {
    const int left = in_ - k0 - depth_;
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      copy_chunk<T, kCopy>(stage + to_a_ + i * kLines * SwizzledTile::kLineBytes, a_[i], somewhere_, there_a_[i], left);
      a_[i] += kGmmaDepth;
    }
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      if constexpr (kTransposed) {
        copy_chunk<T, kCopy>(stage + to_b_ + i * kLines * SwizzledTile::kLineBytes, b_ + i * between_b_, somewhere_,
                             i * kLines < columns_left_, left);
      } else {
        copy_chunk<T, kCopy>(stage + to_b_ + i * kRowLines * SwizzledTile::kLineBytes, b_ + i * between_b_, somewhere_,
                             k0 + first_k_ + i * kRowLines < in_, columns_left_);
      }
    }
    b_ += step_b_;
  }

 private:
  static constexpr int kEach = 4;                      // chunks of either operand
  static constexpr int kLines = kGmmaThreads / 8;      // between them, where lines hold summed elements
  static constexpr int kRowLines = kGmmaThreads / 16;  // where they hold rows
  const T* somewhere_;
  int in_, depth_, first_k_ = 0, columns_left_;
  const T *a_[kEach], *b_;
  bool there_a_[kEach];
  uint32_t to_a_, to_b_;
  int64_t between_b_, step_b_;
};

/// The tile of results as it is stored: rows of 256 bytes, chunks permuted against bank conflicts.
__device__ inline uint32_t result_offset(int row, int chunk) {
  return static_cast<uint32_t>(row * 256 + (chunk ^ (row & 7)) * 16);
}

/// Writes the tile through shared memory, so that neighbours in a row are stored together.
template <class T, int kCopy>
__device__ inline void store_tile(const Cvmm<T>& a, const RowPointer<T>* rows, int64_t first, int count,
                                  int64_t column0, const float (&sums)[64], char* tile) {
  for_each_wgmma_result(sums, [&](int row, int column, float x, float y) {
    const float gate = row < count ? rows[row].gate : 0.0f;
    x *= gate;
    y *= gate;
    if (a.relu) {
      x = x < 0 ? 0 : x;
      y = y < 0 ? 0 : y;
    }
    *reinterpret_cast<uint32_t*>(tile + result_offset(row, column / 8) + column % 8 * 2) = pack<T>(x, y);
  });
  __syncthreads();
  struct alignas(kCopy) Piece {
    T x[kCopy / 2];
  };
  for (int i = threadIdx.x; i < kGmmaTile * 16; i += kGmmaThreads) {
    const int row = i / 16, chunk = i % 16;
    if (row >= count) break;
#pragma unroll
    for (int part = 0; part < 16 / kCopy; ++part) {
      const int64_t column = column0 + chunk * 8 + part * kCopy / 2;
      if (column >= a.out) continue;
      *reinterpret_cast<Piece*>(a.y + (first + row) * a.ldy + column) =
          *reinterpret_cast<const Piece*>(tile + result_offset(row, chunk) + part * kCopy);
    }
  }
}

/// Blocks are numbered column tile by column tile of one row tile, so that its rows are read from L2.
template <class T, int kCopy, bool kTransposed>
__global__ void __launch_bounds__(kGmmaThreads, 2)
    cvmm_wgmma_kernel(Cvmm<T> a, const int32_t* tile_expert, const int32_t* tile_first, int column_tiles) {
  extern __shared__ char shared[];
  __shared__ RowPointer<T> rows[kGmmaTile];
  const int64_t expert = tile_expert[blockIdx.x / column_tiles];
  if (expert < 0) return;
  const int64_t first = tile_first[blockIdx.x / column_tiles], end = a.route.offsets[expert + 1];
  const int count = static_cast<int>(end - first < kGmmaTile ? end - first : kGmmaTile);
  const int64_t column0 = static_cast<int64_t>(blockIdx.x % column_tiles) * kGmmaTile;
  for (int i = threadIdx.x; i < count; i += kGmmaThreads) rows[i] = row_pointer(a.x, a.route, first + i);
  __syncthreads();
  GmmaLoader<T, kCopy, kTransposed> loader(a, rows, count, a.weight + expert * a.in * a.out, column0);
  const uint32_t base = gmma_base(shared);
  const int steps = static_cast<int>(ceil_div(a.in, kGmmaDepth));
  for (int s = 0; s < kGmmaStages - 1; ++s) {
    if (s < steps) loader.load(base + s * kGmmaStageBytes, s * kGmmaDepth);
    commit_copies();
  }
  float sums[64] = {};
  for (int s = 0; s < steps; ++s) {
    wait_for_copies<kGmmaStages - 2>();
    fence_for_wgmma();
    __syncthreads();  // this stage has arrived, and the one that is filled next has been read by all
    const int next = s + kGmmaStages - 1;
    if (next < steps) loader.load(base + next % kGmmaStages * kGmmaStageBytes, next * kGmmaDepth);
    commit_copies();
    multiply_stage_wgmma<T, false, !kTransposed>(sums, base + s % kGmmaStages * kGmmaStageBytes);
    wait_for_wgmma(sums);
  }
  __syncthreads();  // all stages have been read: their place takes the results
  store_tile<T, kCopy>(a, rows, first, count, column0, sums, shared + (base - shared_address(shared)));
}

// ---------------------------------------------------------------- d-weight

/// One operand's 64 rows by 128 columns of a stage; this thread has a chunk of every 16th row.
template <class T, int kCopy>
__device__ inline void copy_row_lines(uint32_t to, const T* const (&rows)[kGmmaDepth], const T* somewhere,
                                      int64_t column0, int64_t width) {
  const int line = threadIdx.x / 16, chunk = threadIdx.x % 16;
  const int left = static_cast<int>(width - column0) - chunk * 8;
  to += chunk / 8 * kGmmaBlockBytes + SwizzledTile::offset(line, chunk % 8);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const T* row = rows[line + i * 16];
    copy_chunk<T, kCopy>(to + i * 16 * SwizzledTile::kLineBytes, row + column0 + chunk * 8, somewhere, row != nullptr,
                         left);
  }
}

/// A block owns a 128 x 128 tile of one expert's dW and adds all its rows, part by part in order.
template <class T, int kCopy>
__global__ void __launch_bounds__(kGmmaThreads, 2)
    weight_gradient_wgmma_kernel(int64_t in, int64_t out, WeightParts<T> parts, float* dweight, Mode mode) {
  extern __shared__ char shared[];
  __shared__ StageRows<T, kGmmaDepth> rows[2];
  const int64_t expert = blockIdx.z, row0 = static_cast<int64_t>(blockIdx.y) * kGmmaTile;
  const int64_t column0 = static_cast<int64_t>(blockIdx.x) * kGmmaTile;
  const uint32_t base = gmma_base(shared);
  const T* somewhere = parts.part[0].a.data;
  StageFinder<T, kGmmaDepth> finder(parts, expert);
  int loaded = 0, done = 0;
  const auto load = [&] {  // the stage whose rows were found before the last barrier
    if (loaded >= finder.found()) return;
    const uint32_t stage = base + loaded % kGmmaStages * kGmmaStageBytes;
    copy_row_lines<T, kCopy>(stage, rows[loaded % 2].a, somewhere, row0, in);
    copy_row_lines<T, kCopy>(stage + kGmmaOperandBytes, rows[loaded % 2].b, somewhere, column0, out);
    ++loaded;
  };
  finder.find(rows);
  __syncthreads();
  for (int s = 0; s < kGmmaStages - 1; ++s) {
    load();
    commit_copies();
    finder.find(rows);
    __syncthreads();
  }
  float sums[64] = {};
  while (done < loaded) {
    wait_for_copies<kGmmaStages - 2>();
    fence_for_wgmma();
    __syncthreads();
    load();
    commit_copies();
    multiply_stage_wgmma<T, true, true>(sums, base + done % kGmmaStages * kGmmaStageBytes);
    ++done;
    finder.find(rows);
    wait_for_wgmma(sums);
  }
  for_each_wgmma_result(sums, [&](int row, int column, float x, float y) {
    if (row0 + row >= in || column0 + column >= out) return;
    store_two(dweight + (expert * in + row0 + row) * out + column0 + column, x, y, mode);
  });
}

}  // namespace moeut::kernels::cuda
