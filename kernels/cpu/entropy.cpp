// The entropy regulariser on the CPU. The mean over tokens is an online log-sum-exp: a running maximum and a sum
// relative to it, so that nothing under- or overflows; fixed blocks of tokens, merged in order in float64.
#include "kernels/entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/put.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/softmax_row.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kTimes = 32;  // times of one block, over all repeats

int64_t time_blocks(int64_t time) {
  return (time + kTimes - 1) / kTimes;
}

/// Where a launch keeps what it needs: per block and (head, expert) the largest ℓ and Σ exp(ℓ - largest), and a term a
/// (sequence, head).
template <class T>
struct Scratch {
  Scratch(void* workspace, int64_t batch, int64_t time, int64_t heads, int64_t experts)
      : sum(static_cast<double*>(workspace)),
        term(sum + batch * time_blocks(time) * heads * experts),
        largest(reinterpret_cast<T*>(term + batch * heads)) {}

  static size_t bytes(int64_t batch, int64_t time, int64_t heads, int64_t experts) {
    const int64_t entries = batch * time_blocks(time) * heads * experts;
    return static_cast<size_t>(entries) * (sizeof(double) + sizeof(T)) +
           static_cast<size_t>(batch * heads) * sizeof(double);
  }

  double* sum;
  double* term;
  T* largest;
};

/// Takes one row's ℓ = (logits - their largest) - log Σ into the running maximum and sum. Two exponentials, of which
/// one is 1: choosing between them would be control flow to gcc, and no SIMD.
template <class T>
MOEUT_INLINE void take_row(const T* logits, int64_t experts, T* largest, double* sum) {
  const SoftmaxRow<T> softmax = softmax_row_of(logits, experts);
  const T log_sum = static_cast<T>(std::log(softmax.sum));
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e) {
    const T l = (logits[e] - softmax.largest) - log_sum, before = largest[e];
    const T top = l > before ? l : before;
    const T keep = fast_exp(before - top), term = fast_exp(l - top);
    sum[e] = sum[e] * static_cast<double>(keep) + static_cast<double>(term);
    largest[e] = top;
  }
}

/// Times [begin, end) of sequence b in all repeats; largest and sum: (heads, experts).
template <class T>
MOEUT_INLINE void take_block_body(const EntropyForward<T>& a, int64_t b, int64_t begin, int64_t end, T* largest,
                                  double* sum) {
  const int64_t width = a.heads * a.experts;
  std::fill_n(largest, width, std::numeric_limits<T>::lowest());
  std::fill_n(sum, width, 0.0);
  for (const T* logits : a.logits) {
    for (int64_t t = begin; t < end; ++t) {
      const T* row = logits + (b * a.time + t) * width;
      for (int64_t h = 0; h < a.heads; ++h)
        take_row(row + h * a.experts, a.experts, largest + h * a.experts, sum + h * a.experts);
    }
  }
}
MOEUT_CLONES void take_block(const EntropyForward<float>& a, int64_t b, int64_t begin, int64_t end, float* largest,
                             double* sum) {
  take_block_body(a, b, begin, end, largest, sum);
}
MOEUT_CLONES void take_block(const EntropyForward<double>& a, int64_t b, int64_t begin, int64_t end, double* largest,
                             double* sum) {
  take_block_body(a, b, begin, end, largest, sum);
}

/// log Σ exp over the blocks of one expert; entries are `stride` apart.
template <class T>
double merge_blocks(const T* largest, const double* sum, int64_t blocks, int64_t stride) {
  T top = largest[0];
  for (int64_t k = 1; k < blocks; ++k) top = std::max(top, largest[k * stride]);
  double total = 0;
  for (int64_t k = 0; k < blocks; ++k)
    total += sum[k * stride] * std::exp(static_cast<double>(largest[k * stride]) - static_cast<double>(top));
  return static_cast<double>(top) + std::log(total);
}

/// m of one (sequence, head); returns Σ_e m · exp(m).
template <class T>
double finish_head(const EntropyForward<T>& a, const Scratch<T>& scratch, int64_t b, int64_t h) {
  const int64_t width = a.heads * a.experts, blocks = time_blocks(a.time);
  const double log_count = std::log(static_cast<double>(a.time) * static_cast<double>(a.logits.size()));
  double term = 0;
  for (int64_t e = 0; e < a.experts; ++e) {
    const int64_t column = h * a.experts + e, first = b * blocks * width + column;
    const double m = merge_blocks(scratch.largest + first, scratch.sum + first, blocks, width) - log_count;
    a.log_mean[b * width + column] = static_cast<T>(m);
    term += m * std::exp(m);
  }
  return term;
}

/// One row: with k = dreg · scale / (heads · R · time), c = k (1 + m), and as Σ p = 1:  dlogits[e] = k · p[e] · (d[e] -
/// Σ p d), d = m - max m: the differences of m survive, where m itself would drown them.
template <bool kAdd, class T>
MOEUT_INLINE void gradient_row(const T* logits, const T* m, int64_t experts, T k, T* dlogits) {
  const SoftmaxRow<T> softmax = softmax_row_of(logits, experts);
  const T inverse = static_cast<T>(1 / softmax.sum), top = row_max(m, experts);
  T mean = 0;
#pragma omp simd reduction(+ : mean)
  for (int64_t e = 0; e < experts; ++e) mean += fast_exp(logits[e] - softmax.largest) * (m[e] - top);
  mean *= inverse;
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e) {
    const T p = fast_exp(logits[e] - softmax.largest) * inverse;
    put<kAdd>(dlogits[e], k * p * ((m[e] - top) - mean));
  }
}

/// Tokens [begin, end) of batch · time.
template <class T>
MOEUT_INLINE void gradient_tokens_body(const EntropyBackward<T>& a, int64_t begin, int64_t end) {
  const int64_t width = a.heads * a.experts;
  const double count = static_cast<double>(a.heads) * static_cast<double>(a.repeats) * static_cast<double>(a.time);
  const T k = static_cast<T>(static_cast<double>(*a.dreg) * a.scale / count);
  for (int64_t token = begin; token < end; ++token) {
    for (int64_t h = 0; h < a.heads; ++h) {
      const int64_t at = token * width + h * a.experts;
      const T* m = a.log_mean + token / a.time * width + h * a.experts;
      a.mode == Mode::accumulate ? gradient_row<true>(a.logits + at, m, a.experts, k, a.dlogits + at)
                                 : gradient_row<false>(a.logits + at, m, a.experts, k, a.dlogits + at);
    }
  }
}
MOEUT_CLONES void gradient_tokens(const EntropyBackward<float>& a, int64_t begin, int64_t end) {
  gradient_tokens_body(a, begin, end);
}
MOEUT_CLONES void gradient_tokens(const EntropyBackward<double>& a, int64_t begin, int64_t end) {
  gradient_tokens_body(a, begin, end);
}

}  // namespace

template <class T>
size_t entropy_workspace_bytes(Cpu, int64_t batch, int64_t time, int64_t heads, int64_t experts) {
  return Scratch<T>::bytes(batch, time, heads, experts);
}

template <class T>
void entropy_forward(Cpu, const Launch& launch, const EntropyForward<T>& args) {
  const Scratch<T> scratch(launch.workspace, args.batch, args.time, args.heads, args.experts);
  const int64_t blocks = time_blocks(args.time), width = args.heads * args.experts;
  parallel_pieces(args.batch * blocks, [&](int64_t piece, int) {
    const int64_t begin = piece % blocks * kTimes;
    take_block(args, piece / blocks, begin, std::min(begin + kTimes, args.time), scratch.largest + piece * width,
               scratch.sum + piece * width);
  });
  parallel_pieces(args.batch * args.heads, [&](int64_t piece, int) {
    scratch.term[piece] = finish_head(args, scratch, piece / args.heads, piece % args.heads);
  });
  double total = 0;
  for (int64_t i = 0; i < args.batch * args.heads; ++i) total += scratch.term[i];
  *args.reg = static_cast<T>(args.scale * total / static_cast<double>(args.heads));
}

template <class T>
void entropy_backward(Cpu, const Launch&, const EntropyBackward<T>& args) {
  parallel_blocks(args.batch * args.time, kTimes,
                  [&](int64_t begin, int64_t end) { gradient_tokens(args, begin, end); });
}

template size_t entropy_workspace_bytes<float>(Cpu, int64_t, int64_t, int64_t, int64_t);
template size_t entropy_workspace_bytes<double>(Cpu, int64_t, int64_t, int64_t, int64_t);
template void entropy_forward<float>(Cpu, const Launch&, const EntropyForward<float>&);
template void entropy_forward<double>(Cpu, const Launch&, const EntropyForward<double>&);
template void entropy_backward<float>(Cpu, const Launch&, const EntropyBackward<float>&);
template void entropy_backward<double>(Cpu, const Launch&, const EntropyBackward<double>&);

}  // namespace moeut::kernels
