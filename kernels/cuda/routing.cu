#include "kernels/routing.h"

#include <cub/device/device_scan.cuh>
#include <type_traits>

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

// ---------------------------------------------------------------- top-k

/// What experts are ranked by: first 'not excluded', then p, then the lower index; a NaN comes before every p, so that
/// it shows in the loss.
template <class T>
struct Rank {
  bool excluded;
  T p;
  int64_t expert;

  __device__ bool before(const Rank& other) const {
    if (excluded != other.excluded) return !excluded;
    if (p != other.p) return p > other.p;
    return expert < other.expert;
  }
};

template <class T>
__device__ Rank<T> warp_first(Rank<T> mine) {
  for (int distance = 16; distance > 0; distance /= 2) {
    Rank<T> other;
    other.excluded = __shfl_xor_sync(kAllLanes, static_cast<int>(mine.excluded), distance) != 0;
    other.p = __shfl_xor_sync(kAllLanes, mine.p, distance);
    other.expert = __shfl_xor_sync(kAllLanes, mine.expert, distance);
    if (other.before(mine)) mine = other;
  }
  return mine;
}

template <class T>
__device__ Rank<T> rank_of(const TopK<T>& a, int64_t row, int64_t expert) {
  constexpr T kNanRank = 2;
  const T p = sigmoid(a.logits[row * a.ld_logits + expert]);
  Rank<T> rank{false, p == p ? p : kNanRank, expert};
  if (a.drop > 0) {
    const auto sequence = static_cast<uint64_t>(row / a.rows_per_sequence);
    const auto element = static_cast<uint64_t>(row % a.rows_per_sequence * a.experts + expert);
    rank.excluded = static_cast<double>(dropout_uniform(*a.rng, sequence, a.site, element)) < a.drop;
  }
  return rank;
}

/// A warp for each row: K times the first of the ranking that comes after the one chosen last. Ranks of the first
/// kHeld · 32 experts stay in registers.
template <class T>
__global__ void __launch_bounds__(kThreads) top_k_kernel(TopK<T> a) {
  constexpr int kHeld = 16;
  const int lane = threadIdx.x % 32;
  for (int64_t row = first_element() / 32; row < a.rows; row += element_step() / 32) {
    const auto first_id = static_cast<int32_t>(row % a.heads * a.experts);
    Rank<T> held[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) {
      const int64_t e = lane + 32 * i;
      if (e < a.experts) held[i] = rank_of(a, row, e);
    }
    Rank<T> last{false, T(3), -1};  // before every other
    for (int64_t k = 0; k < a.k; ++k) {
      Rank<T> best{true, T(-1), a.experts};  // after every other
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        if (lane + 32 * i < a.experts && last.before(held[i]) && held[i].before(best)) best = held[i];
      }
      for (int64_t e = lane + 32 * kHeld; e < a.experts; e += 32) {
        const Rank<T> rank = rank_of(a, row, e);
        if (last.before(rank) && rank.before(best)) best = rank;
      }
      last = warp_first(best);
      if (lane == 0) {
        a.expert[row * a.k + k] = first_id + static_cast<int32_t>(last.expert);
        a.gate[row * a.k + k] = sigmoid(a.logits[row * a.ld_logits + last.expert]);
      }
    }
  }
}

/// The same ranking for float as one number: bit 63 'not excluded', then the bits of p >= 0, then the complement of the
/// index. A warp finds the largest in two steps of 32 bits.
__device__ inline uint64_t key_of(const Rank<float>& rank) {
  const uint32_t high = (rank.excluded ? 0u : 0x80000000u) | __float_as_uint(rank.p);
  return uint64_t{high} << 32 | (0xffffffffu - static_cast<uint32_t>(rank.expert));
}
__device__ inline uint64_t warp_largest(uint64_t key) {
  const auto high = static_cast<uint32_t>(key >> 32);
  const uint32_t top = __reduce_max_sync(kAllLanes, high);
  const uint32_t low = __reduce_max_sync(kAllLanes, high == top ? static_cast<uint32_t>(key) : 0u);
  return uint64_t{top} << 32 | low;
}

/// A lane holds the keys of its first kHeld experts.
template <int kHeld>
__global__ void __launch_bounds__(kThreads) top_k_by_key_kernel(TopK<float> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t row = first_element() / 32; row < a.rows; row += element_step() / 32) {
    const auto first_id = static_cast<int32_t>(row % a.heads * a.experts);
    uint64_t held[kHeld];
#pragma unroll
    for (int i = 0; i < kHeld; ++i) held[i] = lane + 32 * i < a.experts ? key_of(rank_of(a, row, lane + 32 * i)) : 0;
    uint64_t last = ~uint64_t{0};
    for (int64_t k = 0; k < a.k; ++k) {
      uint64_t best = 0;
#pragma unroll
      for (int i = 0; i < kHeld; ++i) best = held[i] < last && held[i] > best ? held[i] : best;
      for (int64_t e = lane + 32 * kHeld; e < a.experts; e += 32) {
        const uint64_t key = key_of(rank_of(a, row, e));
        best = key < last && key > best ? key : best;
      }
      last = warp_largest(best);
      if (lane == 0) {
        const uint32_t expert = 0xffffffffu - static_cast<uint32_t>(last);
        a.expert[row * a.k + k] = first_id + static_cast<int32_t>(expert);
        a.gate[row * a.k + k] = sigmoid(a.logits[row * a.ld_logits + expert]);
      }
    }
  }
}

void choose_top_k(const Launch& launch, const TopK<float>& args) {
  const unsigned blocks = grid_for(args.rows * 32, kThreads);
  const auto run = [&](auto held) {
    top_k_by_key_kernel<held.value><<<blocks, kThreads, 0, stream_of(launch)>>>(args);
  };
  const int64_t each = ceil_div(args.experts, 32);
  if (each <= 1) return run(std::integral_constant<int, 1>());
  if (each <= 2) return run(std::integral_constant<int, 2>());
  if (each <= 5) return run(std::integral_constant<int, 5>());
  if (each <= 9) return run(std::integral_constant<int, 9>());
  if (each <= 13) return run(std::integral_constant<int, 13>());
  run(std::integral_constant<int, 20>());
}
void choose_top_k(const Launch& launch, const TopK<double>& args) {
  top_k_kernel<double><<<grid_for(args.rows * 32, kThreads), kThreads, 0, stream_of(launch)>>>(args);
}

template <class T>
__global__ void forced_kernel(TopK<T> a) {
  for (int64_t i = first_element(); i < a.rows * a.k; i += element_step()) {
    const int64_t row = i / a.k, expert = a.forced[i] - row % a.heads * a.experts;
    a.expert[i] = a.forced[i];
    a.gate[i] = sigmoid(a.logits[row * a.ld_logits + expert]);
  }
}

/// A warp for each row.
template <class T>
__global__ void __launch_bounds__(kThreads) top_k_backward_kernel(TopKBackward<T> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t row = first_element() / 32; row < a.rows; row += element_step() / 32) {
    T* dlogits = a.dlogits + row * a.ld_dlogits;
    if (a.mode == Mode::overwrite) {
      for (int64_t e = lane; e < a.experts; e += 32) dlogits[e] = T(0);
      __syncwarp();
    }
    for (int64_t i = row * a.k + lane; i < (row + 1) * a.k; i += 32) {
      const T p = a.gate[i];
      dlogits[a.expert[i] % a.experts] += a.dgate[i] * p * (T(1) - p);  // the experts of a row are distinct
    }
  }
}

// ---------------------------------------------------------------- stable counting sort
// A warp has a stretch of consecutive pairs. counts[e, w]: pairs of expert e in the stretch of warp w. Their exclusive
// running sum in this order is the place of the first such pair.

constexpr int64_t kStretch = 512;
constexpr int64_t kMostExperts = 4096;  // counters in shared memory: kSortWarps · experts · 4 bytes
constexpr int kSortWarps = 2;

__device__ inline int* own_counters(int64_t experts) {
  extern __shared__ int counters[];
  return counters + threadIdx.x / 32 * experts;
}

__global__ void count_kernel(int64_t pairs, int64_t experts, int64_t stretches, const int32_t* expert,
                             int32_t* counts) {
  int* own = own_counters(experts);
  const int lane = threadIdx.x % 32;
  const int64_t stretch = first_element() / 32;
  if (stretch >= stretches) return;
  for (int64_t e = lane; e < experts; e += 32) own[e] = 0;
  __syncwarp();
  const int64_t end = (stretch + 1) * kStretch < pairs ? (stretch + 1) * kStretch : pairs;
  for (int64_t s = stretch * kStretch + lane; s < end; s += 32) atomicAdd(own + expert[s], 1);
  __syncwarp();
  for (int64_t e = lane; e < experts; e += 32) counts[e * stretches + stretch] = own[e];
}

__global__ void place_kernel(int64_t pairs, int64_t experts, int64_t stretches, const int32_t* expert,
                             const int32_t* starts, int32_t* order, int32_t* place, int32_t* offsets) {
  int* own = own_counters(experts);
  const int lane = threadIdx.x % 32;
  const int64_t stretch = first_element() / 32;
  if (stretch >= stretches) return;
  for (int64_t e = lane; e < experts; e += 32) {
    own[e] = starts[e * stretches + stretch];
    if (stretch == 0) offsets[e] = own[e];
  }
  if (stretch == 0 && lane == 0) offsets[experts] = static_cast<int32_t>(pairs);
  __syncwarp();
  const int64_t end = (stretch + 1) * kStretch < pairs ? (stretch + 1) * kStretch : pairs;
  for (int64_t begin = stretch * kStretch; begin < end; begin += 32) {
    const int64_t s = begin + lane;
    const int e = s < end ? expert[s] : -1 - lane;  // lanes without a pair match nobody
    const unsigned same = __match_any_sync(kAllLanes, e);
    const int before = __popc(same & ((1u << lane) - 1));
    const int first = e >= 0 ? own[e] : 0;
    __syncwarp();
    if (s < end) {
      const int at = first + before;
      order[at] = static_cast<int32_t>(s);
      place[s] = at;
      if (before == 0) own[e] = first + __popc(same);
    }
    __syncwarp();
  }
}

size_t scan_bytes(int64_t n) {
  size_t bytes = 0;
  cub::DeviceScan::ExclusiveSum(nullptr, bytes, static_cast<int32_t*>(nullptr), static_cast<int32_t*>(nullptr),
                                static_cast<int>(n));
  return bytes;
}

size_t aligned(size_t bytes) {
  return (bytes + 255) / 256 * 256;
}

}  // namespace

template <class T>
void top_k(Cuda, const Launch& launch, const TopK<T>& args) {
  if (args.rows == 0) return;
  if (args.forced != nullptr) {
    forced_kernel<T><<<grid_for(args.rows * args.k, kThreads), kThreads, 0, stream_of(launch)>>>(args);
  } else {
    choose_top_k(launch, args);
  }
  check_launch("top_k");
}

template <class T>
void top_k_backward(Cuda, const Launch& launch, const TopKBackward<T>& args) {
  if (args.rows == 0) return;
  top_k_backward_kernel<T><<<grid_for(args.rows * 32, kThreads), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("top_k_backward");
}

size_t sort_pairs_workspace_bytes(Cuda, int64_t pairs, int64_t experts) {
  const int64_t n = experts * ceil_div(pairs, kStretch);
  return aligned(static_cast<size_t>(n) * sizeof(int32_t)) + scan_bytes(n);
}

void sort_pairs(Cuda, const Launch& launch, int64_t pairs, int64_t experts, const int32_t* expert, int32_t* order,
                int32_t* place, int32_t* offsets) {
  if (experts > kMostExperts)
    throw BackendError("sort_pairs: " + std::to_string(experts) + " experts in all heads; on CUDA at most 4096");
  if (pairs == 0) {
    cudaMemsetAsync(offsets, 0, static_cast<size_t>(experts + 1) * sizeof(int32_t), stream_of(launch));
    return;
  }
  const int64_t stretches = ceil_div(pairs, kStretch), n = experts * stretches;
  auto* counts = static_cast<int32_t*>(launch.workspace);
  void* scan = static_cast<char*>(launch.workspace) + aligned(static_cast<size_t>(n) * sizeof(int32_t));
  size_t bytes = scan_bytes(n);
  const auto blocks = static_cast<unsigned>(ceil_div(stretches, kSortWarps));
  const size_t shared = static_cast<size_t>(kSortWarps * experts) * sizeof(int);
  count_kernel<<<blocks, kSortWarps * 32, shared, stream_of(launch)>>>(pairs, experts, stretches, expert, counts);
  check_launch("sort_pairs: count");
  cub::DeviceScan::ExclusiveSum(scan, bytes, counts, counts, static_cast<int>(n), stream_of(launch));
  check_launch("sort_pairs: scan");
  place_kernel<<<blocks, kSortWarps * 32, shared, stream_of(launch)>>>(pairs, experts, stretches, expert, counts, order,
                                                                       place, offsets);
  check_launch("sort_pairs: place");
}

#define MOEUT_INSTANTIATE(T)                                   \
  template void top_k<T>(Cuda, const Launch&, const TopK<T>&); \
  template void top_k_backward<T>(Cuda, const Launch&, const TopKBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
