// The mean over tokens is an online log-sum-exp, as on the CPU: a running maximum and a sum relative to it. A block
// takes a stretch of times of one (sequence, head) in all repeats; stretches are merged in order.
#include "kernels/entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int64_t kTimes = 64;  // of a stretch, in every repeat
constexpr int kPointers = 32;   // repeats of one launch

int64_t stretches(int64_t time) {
  return ceil_div(time, kTimes);
}

template <class T>
struct Repeats {
  const T* logits[kPointers];
  int count = 0;
};

/// Per (sequence, head), stretch and expert: the largest ℓ and Σ exp(ℓ - largest); per (sequence, head): its term.
template <class T>
struct Scratch {
  Scratch(void* workspace, int64_t batch, int64_t time, int64_t heads, int64_t experts)
      : sum(static_cast<double*>(workspace)),
        term(sum + batch * heads * stretches(time) * experts),
        largest(reinterpret_cast<T*>(term + batch * heads)) {}
  static size_t bytes(int64_t batch, int64_t time, int64_t heads, int64_t experts) {
    const int64_t entries = batch * heads * stretches(time) * experts;
    return static_cast<size_t>(entries) * (sizeof(double) + sizeof(T)) +
           static_cast<size_t>(batch * heads) * sizeof(double);
  }
  double* sum;
  double* term;
  T* largest;
};

/// log Σ exp of one row, by a warp.
template <class T>
__device__ T row_lse(const T* row, int64_t experts) {
  const int lane = threadIdx.x % 32;
  T largest = minus_infinity<T>();
  for (int64_t e = lane; e < experts; e += 32) largest = row[e] > largest ? row[e] : largest;
  largest = warp_max(largest);
  T sum = 0;
  for (int64_t e = lane; e < experts; e += 32) sum += exp(row[e] - largest);
  return largest + log(warp_sum(sum));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    stretch_kernel(EntropyForward<T> a, Repeats<T> repeats, bool first, Scratch<T> scratch) {
  __shared__ T lse[kWarps];
  const int64_t sequence = blockIdx.y / a.heads, head = blockIdx.y % a.heads;
  const int64_t width = a.heads * a.experts;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kTimes;
  const int64_t end = begin + kTimes < a.time ? begin + kTimes : a.time;
  const int64_t entry = (static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x) * a.experts;
  const int warp = threadIdx.x / 32;
  constexpr T kLowest = ::cuda::std::numeric_limits<T>::lowest();
  for (int64_t e = threadIdx.x; first && e < a.experts; e += kThreads) {
    scratch.largest[entry + e] = kLowest;
    scratch.sum[entry + e] = 0;
  }
  for (int r = 0; r < repeats.count; ++r) {
    const T* rows = repeats.logits[r] + sequence * a.time * width + head * a.experts;
    for (int64_t t = begin; t < end; t += kWarps) {
      __syncthreads();
      if (t + warp < end) {
        const T value = row_lse(rows + (t + warp) * width, a.experts);
        if (threadIdx.x % 32 == 0) lse[warp] = value;
      }
      __syncthreads();
      const int count = static_cast<int>(end - t < kWarps ? end - t : kWarps);
      // Each expert belongs to one thread.
      for (int64_t e = threadIdx.x; e < a.experts; e += kThreads) {
        T largest = scratch.largest[entry + e];
        double sum = scratch.sum[entry + e];
        for (int i = 0; i < count; ++i) {
          const T l = rows[(t + i) * width + e] - lse[i];
          const T top = l > largest ? l : largest;
          sum = sum * static_cast<double>(exp(largest - top)) + static_cast<double>(exp(l - top));
          largest = top;
        }
        scratch.largest[entry + e] = largest;
        scratch.sum[entry + e] = sum;
      }
    }
  }
}

/// log_mean of one (sequence, head), and its Σ_e m · exp(m).
template <class T>
__global__ void __launch_bounds__(kThreads)
    merge_kernel(EntropyForward<T> a, int64_t blocks, double log_count, Scratch<T> scratch) {
  const int64_t row = blockIdx.x;
  double term = 0;
  for (int64_t e = threadIdx.x; e < a.experts; e += kThreads) {
    double largest = minus_infinity<double>(), sum = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      const int64_t entry = (row * blocks + b) * a.experts + e;
      const auto l = static_cast<double>(scratch.largest[entry]);
      const double top = l > largest ? l : largest;
      sum = sum * exp(largest - top) + scratch.sum[entry] * exp(l - top);
      largest = top;
    }
    const double m = largest + log(sum) - log_count;
    a.log_mean[row * a.experts + e] = static_cast<T>(m);
    term += m * exp(m);
  }
  term = block_sum(term);
  if (threadIdx.x == 0) scratch.term[row] = term;
}

template <class T>
__global__ void total_kernel(int64_t rows, double factor, const double* term, T* reg) {
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) sum += term[i];
  *reg = static_cast<T>(factor * sum);
}

/// A warp for each row of logits. With k = dreg · scale / (heads · R · time) and d = m - max m, as Σ p = 1:
/// dlogits[e] = k · p[e] · (d[e] - Σ p d): the differences of m survive, where m itself would drown them.
template <class T>
__global__ void __launch_bounds__(kThreads) backward_kernel(EntropyBackward<T> a) {
  const int64_t rows = a.batch * a.time * a.heads;
  const int lane = threadIdx.x % 32;
  const double count = static_cast<double>(a.heads) * static_cast<double>(a.repeats) * static_cast<double>(a.time);
  const T k = static_cast<T>(static_cast<double>(*a.dreg) * a.scale / count);
  for (int64_t row = first_element() / 32; row < rows; row += element_step() / 32) {
    const int64_t sequence = row / (a.time * a.heads), head = row % a.heads;
    const T* logits = a.logits + row * a.experts;
    const T* m = a.log_mean + (sequence * a.heads + head) * a.experts;
    T top = minus_infinity<T>();
    for (int64_t e = lane; e < a.experts; e += 32) top = m[e] > top ? m[e] : top;
    top = warp_max(top);
    const T lse = row_lse(logits, a.experts);
    T mean = 0;
    for (int64_t e = lane; e < a.experts; e += 32) mean += exp(logits[e] - lse) * (m[e] - top);
    mean = warp_sum(mean);
    for (int64_t e = lane; e < a.experts; e += 32)
      store(a.dlogits + row * a.experts + e, k * exp(logits[e] - lse) * ((m[e] - top) - mean), a.mode);
  }
}

}  // namespace

template <class T>
size_t entropy_workspace_bytes(Cuda, int64_t batch, int64_t time, int64_t heads, int64_t experts) {
  return Scratch<T>::bytes(batch, time, heads, experts);
}

template <class T>
void entropy_forward(Cuda, const Launch& launch, const EntropyForward<T>& args) {
  const Scratch<T> scratch(launch.workspace, args.batch, args.time, args.heads, args.experts);
  const int64_t rows = args.batch * args.heads, blocks = stretches(args.time);
  const auto count = static_cast<int64_t>(args.logits.size());
  const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(rows));
  EntropyForward<T> a = args;
  a.logits = {};  // a host pointer
  for (int64_t done = 0; done < count; done += kPointers) {
    Repeats<T> repeats;
    repeats.count = static_cast<int>(std::min<int64_t>(kPointers, count - done));
    for (int i = 0; i < repeats.count; ++i) repeats.logits[i] = args.logits[static_cast<size_t>(done + i)];
    stretch_kernel<T><<<grid, kThreads, 0, stream_of(launch)>>>(a, repeats, done == 0, scratch);
    check_launch("entropy_forward: stretches");
  }
  const double log_count = std::log(static_cast<double>(count * args.time));
  merge_kernel<T><<<static_cast<unsigned>(rows), kThreads, 0, stream_of(launch)>>>(a, blocks, log_count, scratch);
  check_launch("entropy_forward: merge");
  total_kernel<T>
      <<<1, 1, 0, stream_of(launch)>>>(rows, args.scale / static_cast<double>(args.heads), scratch.term, args.reg);
  check_launch("entropy_forward: total");
}

template <class T>
void entropy_backward(Cuda, const Launch& launch, const EntropyBackward<T>& args) {
  const int64_t rows = args.batch * args.time * args.heads;
  if (rows == 0) return;
  backward_kernel<T><<<grid_for(rows * 32, kThreads), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("entropy_backward");
}

#define MOEUT_INSTANTIATE(T)                                                            \
  template size_t entropy_workspace_bytes<T>(Cuda, int64_t, int64_t, int64_t, int64_t); \
  template void entropy_forward<T>(Cuda, const Launch&, const EntropyForward<T>&);      \
  template void entropy_backward<T>(Cuda, const Launch&, const EntropyBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
