// CVMM in full precision: tiles of a matrix product on the ordinary cores, gather, scatter and gate inside, no atomics.
#include "kernels/cvmm.h"

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/cvmm_mma.cuh"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;

// A block of 16 x 16 threads computes a tile of 64 x 64, each thread 4 x 4 of it, 16 of the summed dimension at a time.
constexpr int kTile = 64;
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

/// Where the row of sorted place r is, and its gate.
template <class T>
struct Row {
  const T* data;
  Wide<T> gate;

  /// An operand: the product is rounded as it would be if it were stored.
  __device__ Wide<T> operator[](int64_t i) const {
    return kIsNarrow<T> && gate != Wide<T>(1) ? Wide<T>(T(gate * Wide<T>(data[i]))) : gate * Wide<T>(data[i]);
  }
};
template <class T>
__device__ inline Row<T> row_at(const PairRows<T>& rows, const Route& route, int64_t place) {
  const int64_t pair = route.order[place];
  const int64_t row = rows.divisor > 0 ? pair / rows.divisor : place;
  return {rows.data + row * rows.ld, rows.gate != nullptr ? rows.gate[pair] : Wide<T>(1)};
}

// ---------------------------------------------------------------- tiles of experts

/// A tile of rows belongs to one expert: `tile` places, fewer at its end.
struct TileList {
  int32_t* expert;
  int32_t* first;  // place
};

/// As many tiles as there can be for any routing: what the grid is sized by, since the host does not know the routing.
__host__ __device__ int64_t most_tiles(const Route& route, int tile) {
  const int64_t full = route.pairs / tile;
  return full + (route.experts < route.pairs ? route.experts : route.pairs);
}

/// One block lists the tiles of all experts in order, and ends the list with -1.
__global__ void __launch_bounds__(1024) list_tiles_kernel(Route route, int tile, TileList list) {
  __shared__ int64_t running;
  __shared__ int64_t parts[32];
  if (threadIdx.x == 0) running = 0;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int64_t begin = 0; begin < route.experts; begin += blockDim.x) {
    const int64_t e = begin + threadIdx.x;
    const int64_t first = e < route.experts ? route.offsets[e] : 0, end = e < route.experts ? route.offsets[e + 1] : 0;
    const int64_t tiles = ceil_div(end - first, tile);
    int64_t sum = tiles;
    for (int distance = 1; distance < 32; distance *= 2) {
      const int64_t other = __shfl_up_sync(kAllLanes, sum, distance);
      if (lane >= distance) sum += other;
    }
    if (lane == 31) parts[warp] = sum;
    __syncthreads();
    int64_t at = running + sum - tiles, total = 0;
    for (int w = 0; w < 32; ++w) {
      if (w < warp) at += parts[w];
      total += parts[w];
    }
    for (int64_t t = 0; t < tiles; ++t) {
      list.expert[at + t] = static_cast<int32_t>(e);
      list.first[at + t] = static_cast<int32_t>(first + t * tile);
    }
    __syncthreads();
    if (threadIdx.x == 0) running += total;
    __syncthreads();
  }
  for (int64_t t = running + threadIdx.x; t < most_tiles(route, tile); t += blockDim.x) list.expert[t] = -1;
}

TileList list_tiles(const Launch& launch, const Route& route, int tile) {
  auto* places = static_cast<int32_t*>(launch.workspace);
  const TileList list{places, places + most_tiles(route, tile)};
  list_tiles_kernel<<<1, 1024, 0, stream_of(launch)>>>(route, tile, list);
  check_launch("cvmm: tiles");
  return list;
}

// ---------------------------------------------------------------- forward and d-input

template <class T>
__global__ void __launch_bounds__(kThreads) cvmm_kernel(Cvmm<T> a, TileList list) {
  __shared__ Tiles<T> tiles;
  __shared__ Row<T> rows[kTile];
  const int64_t expert = list.expert[blockIdx.x];
  if (expert < 0) return;
  const int64_t first = list.first[blockIdx.x], end = a.route.offsets[expert + 1];
  const int count = static_cast<int>(end - first < kTile ? end - first : kTile);
  const int64_t column0 = static_cast<int64_t>(blockIdx.y) * kTile;
  const T* weight = a.weight + expert * a.in * a.out;
  for (int i = threadIdx.x; i < count; i += kThreads) rows[i] = row_at(a.x, a.route, first + i);
  Wide<T> sum[kEach][kEach] = {};
  for (int64_t k0 = 0; k0 < a.in; k0 += kDepth) {
    __syncthreads();
    for (int i = threadIdx.x; i < kTile * kDepth; i += kThreads) {
      const int row = i / kDepth, k = i % kDepth;
      tiles.a[k][row] = row < count && k0 + k < a.in ? rows[row][k0 + k] : Wide<T>(0);
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
          left = row_at(part.a, part.route, r0 + k)[row0 + column];
        }
        if (row_there && column0 + column < out) {
          right = row_at(part.b, part.route, r0 + k)[column0 + column];
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

// ---------------------------------------------------------------- the rest of the layer

constexpr int kRowThreads = 256;

/// Four neighbours of a 16-bit type at once.
template <class T>
struct alignas(8) Four {
  T x[4];
};

/// Whether rows of `width`, `ld` apart, can be read four neighbours at a time.
template <class T>
bool in_fours(int64_t width, int64_t ld, const void* data) {
  return sizeof(T) == 2 && width % 4 == 0 && ld % 4 == 0 && reinterpret_cast<uintptr_t>(data) % 8 == 0;
}

/// A block for each output row, four neighbours a thread.
template <class T, class Out>
__global__ void __launch_bounds__(kRowThreads) combine_fours_kernel(CvmmCombine<T, Out> a) {
  const int64_t row = blockIdx.x;
  for (int64_t j = threadIdx.x * 4; j < a.width; j += blockDim.x * 4) {
    float sum[4] = {};
#pragma unroll 4
    for (int64_t s = row * a.group; s < (row + 1) * a.group; ++s) {
      const auto y = *reinterpret_cast<const Four<T>*>(a.y + a.route.place[s] * a.ldy + j);
      const float gate = a.gate != nullptr ? a.gate[s] : 1.0f;
      for (int e = 0; e < 4; ++e) sum[e] += gate * float(y.x[e]);
    }
    for (int e = 0; e < 4; ++e) store(a.out + row * a.ldout + j + e, sum[e], a.mode);
  }
}

/// A block for each output row.
template <class T, class Out>
__global__ void __launch_bounds__(kRowThreads) combine_kernel(CvmmCombine<T, Out> a) {
  const int64_t row = blockIdx.x;
  for (int64_t j = threadIdx.x; j < a.width; j += kRowThreads) {
    Wide<T> sum = 0;
    for (int64_t s = row * a.group; s < (row + 1) * a.group; ++s) {
      const Wide<T> value = a.y[a.route.place[s] * a.ldy + j];
      sum += a.gate != nullptr ? a.gate[s] * value : value;
    }
    store(a.out + row * a.ldout + j, sum, a.mode);
  }
}

/// A warp for each pair.
template <class T>
__global__ void __launch_bounds__(kRowThreads) gate_gradient_kernel(CvmmGateGradient<T> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t s = first_element() / 32; s < a.route.pairs; s += element_step() / 32) {
    const int64_t place = a.route.place[s];
    const T *y = a.y + place * a.ldy, *x = row_at(a.x, a.route, place).data;
    Wide<T> dot = 0;
    for (int64_t j = lane; j < a.width; j += 32) dot += Wide<T>(y[j]) * Wide<T>(x[j]);
    dot = warp_sum(dot);
    if (lane == 0) a.dgate[s] = dot;
  }
}

/// A warp for each place, four neighbours a lane.
template <class T>
__global__ void __launch_bounds__(kRowThreads) hidden_backward_fours_kernel(CvmmHiddenBackward<T> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t r = first_element() / 32; r < a.route.pairs; r += element_step() / 32) {
    const int64_t s = a.route.order[r];
    const float gate = a.gate[s];
    float dot = 0;
    for (int64_t j = lane * 4; j < a.width; j += 128) {
      const auto h = *reinterpret_cast<const Four<T>*>(a.h + r * a.width + j);
      auto* place = reinterpret_cast<Four<T>*>(a.da + r * a.width + j);
      Four<T> da = *place;
      for (int e = 0; e < 4; ++e) {
        dot += float(da.x[e]) * float(h.x[e]);
        da.x[e] = T(float(h.x[e]) > 0 ? gate * float(da.x[e]) : 0.0f);
      }
      *place = da;
    }
    dot = warp_sum(dot);
    if (lane == 0) a.dgate[s] = dot;
  }
}

/// A warp for each place.
template <class T>
__global__ void __launch_bounds__(kRowThreads) hidden_backward_kernel(CvmmHiddenBackward<T> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t r = first_element() / 32; r < a.route.pairs; r += element_step() / 32) {
    const int64_t s = a.route.order[r];
    const Wide<T> gate = a.gate[s];
    Wide<T> dot = 0;
    for (int64_t j = lane; j < a.width; j += 32) {
      const Wide<T> h = a.h[r * a.width + j], da = a.da[r * a.width + j];
      dot += da * h;
      a.da[r * a.width + j] = T(h > Wide<T>(0) ? gate * da : Wide<T>(0));
    }
    dot = warp_sum(dot);
    if (lane == 0) a.dgate[s] = dot;
  }
}

// ---------------------------------------------------------------- tensor cores

/// The widest copy (16, 8 or 4 bytes) that 16-bit rows of these lengths and beginnings allow; 0: none.
int copy_bytes_for(int64_t a, int64_t b, int64_t c, const void* x, const void* y) {
  const auto all =
      static_cast<uint64_t>((a | b | c) * 2) | reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y);
  return all % 16 == 0 ? 16 : all % 8 == 0 ? 8 : all % 4 == 0 ? 4 : 0;
}

/// f(std::integral_constant<int, copy>).
template <class F>
void with_copy(int copy, F&& f) {
  if (copy == 16) return f(std::integral_constant<int, 16>());
  if (copy == 8) return f(std::integral_constant<int, 8>());
  f(std::integral_constant<int, 4>());
}

template <class Kernel>
void allow_shared(Kernel* kernel, int bytes) {
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) throw BackendError(std::string("cvmm: cuda: ") + cudaGetErrorString(status));
}

template <class T>
void cvmm_mma(const Launch& launch, const Cvmm<T>& args, int copy) {
  const TileList list = list_tiles(launch, args.route, kMmaTile);
  const int64_t column_tiles = ceil_div(args.out, kMmaTile);
  const auto blocks = static_cast<unsigned>(most_tiles(args.route, kMmaTile) * column_tiles);
  with_copy(copy, [&](auto bytes) {
    const auto kernel = args.transpose ? cvmm_mma_kernel<T, bytes.value, true> : cvmm_mma_kernel<T, bytes.value, false>;
    allow_shared(kernel, kMmaSharedBytes);
    kernel<<<blocks, kMmaThreads, kMmaSharedBytes, stream_of(launch)>>>(args, list.expert, list.first,
                                                                        static_cast<int>(column_tiles));
  });
  check_launch("cvmm: tensor cores");
}

template <class T>
void weight_gradient_mma(const Launch& launch, const CvmmWeightGradient<T>& args, int copy) {
  const dim3 grid(static_cast<unsigned>(ceil_div(args.out, kMmaTile)),
                  static_cast<unsigned>(ceil_div(args.in, kMmaTile)), static_cast<unsigned>(args.experts));
  Mode mode = args.mode;
  for (size_t done = 0; done < args.parts.size(); done += kMmaParts) {
    MmaParts<T> parts;
    parts.count = static_cast<int>(std::min<size_t>(kMmaParts, args.parts.size() - done));
    for (int i = 0; i < parts.count; ++i) parts.part[i] = args.parts[done + static_cast<size_t>(i)];
    with_copy(copy, [&](auto bytes) {
      const auto kernel = weight_gradient_mma_kernel<T, bytes.value>;
      allow_shared(kernel, kMmaSharedBytes);
      kernel<<<grid, kMmaThreads, kMmaSharedBytes, stream_of(launch)>>>(args.in, args.out, parts, args.dweight, mode);
    });
    check_launch("cvmm_weight_gradient: tensor cores");
    mode = Mode::accumulate;
  }
}

}  // namespace

template <class T>
size_t cvmm_workspace_bytes(Cuda, const Route& route, int64_t, int64_t) {
  return static_cast<size_t>(2 * most_tiles(route, kTile)) * sizeof(int32_t);
}

template <class T>
void cvmm(Cuda, const Launch& launch, const Cvmm<T>& args) {
  if (args.route.pairs == 0 || args.out == 0) return;
  if constexpr (sizeof(T) == 2) {
    const int copy = copy_bytes_for(args.x.ld, args.in, args.out, args.x.data, args.weight);
    if (copy > 0 && args.ldy % 2 == 0) return cvmm_mma(launch, args, copy);
  }
  const TileList list = list_tiles(launch, args.route, kTile);
  const dim3 grid(static_cast<unsigned>(most_tiles(args.route, kTile)),
                  static_cast<unsigned>(ceil_div(args.out, kTile)));
  cvmm_kernel<T><<<grid, kThreads, 0, stream_of(launch)>>>(args, list);
  check_launch("cvmm");
}

template <class T>
size_t cvmm_weight_gradient_workspace_bytes(Cuda, int64_t, int64_t) {
  return 0;
}

template <class T>
void cvmm_weight_gradient(Cuda, const Launch& launch, const CvmmWeightGradient<T>& args) {
  if (args.experts * args.in * args.out == 0) return;
  if constexpr (sizeof(T) == 2) {
    int copy = args.parts.empty() ? 0 : 16;
    for (const CvmmWeightPart<T>& p : args.parts) {
      copy = std::min(copy, copy_bytes_for(p.a.ld, p.b.ld, args.in | args.out, p.a.data, p.b.data));
    }
    if (copy > 0) return weight_gradient_mma(launch, args, copy);
  }
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

template <class T, class Out>
void cvmm_combine(Cuda, const Launch& launch, const CvmmCombine<T, Out>& args) {
  const int64_t rows = args.route.pairs / args.group;
  if (rows == 0) return;
  if constexpr (sizeof(T) == 2) {
    if (in_fours<T>(args.width, args.ldy, args.y)) {
      const int threads = static_cast<int>(std::min<int64_t>(kRowThreads, ceil_div(args.width, 128) * 32));
      combine_fours_kernel<<<static_cast<unsigned>(rows), threads, 0, stream_of(launch)>>>(args);
      return check_launch("cvmm_combine");
    }
  }
  combine_kernel<<<static_cast<unsigned>(rows), kRowThreads, 0, stream_of(launch)>>>(args);
  check_launch("cvmm_combine");
}

template <class T>
void cvmm_gate_gradient(Cuda, const Launch& launch, const CvmmGateGradient<T>& args) {
  if (args.route.pairs == 0) return;
  gate_gradient_kernel<T><<<grid_for(args.route.pairs * 32, kRowThreads), kRowThreads, 0, stream_of(launch)>>>(args);
  check_launch("cvmm_gate_gradient");
}

template <class T>
void cvmm_hidden_backward(Cuda, const Launch& launch, const CvmmHiddenBackward<T>& args) {
  if (args.route.pairs == 0) return;
  if constexpr (sizeof(T) == 2) {
    if (in_fours<T>(args.width, args.width, args.h) && in_fours<T>(args.width, args.width, args.da)) {
      const unsigned blocks = grid_for(args.route.pairs * 32, kRowThreads);
      hidden_backward_fours_kernel<T><<<blocks, kRowThreads, 0, stream_of(launch)>>>(args);
      return check_launch("cvmm_hidden_backward");
    }
  }
  hidden_backward_kernel<T><<<grid_for(args.route.pairs * 32, kRowThreads), kRowThreads, 0, stream_of(launch)>>>(args);
  check_launch("cvmm_hidden_backward");
}

#define MOEUT_INSTANTIATE(T)                                                                \
  template size_t cvmm_workspace_bytes<T>(Cuda, const Route&, int64_t, int64_t);            \
  template void cvmm<T>(Cuda, const Launch&, const Cvmm<T>&);                               \
  template size_t cvmm_weight_gradient_workspace_bytes<T>(Cuda, int64_t, int64_t);          \
  template void cvmm_weight_gradient<T>(Cuda, const Launch&, const CvmmWeightGradient<T>&); \
  template void cvmm_combine<T>(Cuda, const Launch&, const CvmmCombine<T>&);                \
  template void cvmm_gate_gradient<T>(Cuda, const Launch&, const CvmmGateGradient<T>&);     \
  template void cvmm_hidden_backward<T>(Cuda, const Launch&, const CvmmHiddenBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE
template void cvmm_combine<TFloat32, float>(Cuda, const Launch&, const CvmmCombine<TFloat32, float>&);
template void cvmm_combine<BFloat16, float>(Cuda, const Launch&, const CvmmCombine<BFloat16, float>&);
template void cvmm_combine<Float16, float>(Cuda, const Launch&, const CvmmCombine<Float16, float>&);

}  // namespace moeut::kernels
