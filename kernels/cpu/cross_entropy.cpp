#include "kernels/cross_entropy.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/put.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/softmax_row.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kRows = 4;
constexpr int64_t kSumBlock = 1024;  // row losses a partial sum

template <class T>
MOEUT_INLINE void losses_body(const CrossEntropyForward<T>& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const T* row = a.logits + i * a.ld_logits;
    const SoftmaxRow<T> softmax = softmax_row_of(row, a.vocabulary);
    const double lse = static_cast<double>(softmax.largest) + std::log(softmax.sum);
    const int32_t target = a.target[i];
    a.lse[i] = static_cast<T>(lse);
    a.row_loss[i] = target < 0 ? T(0) : static_cast<T>(lse - static_cast<double>(row[target]));
  }
}
MOEUT_CLONES void losses(const CrossEntropyForward<float>& a, int64_t begin, int64_t end) {
  losses_body(a, begin, end);
}
MOEUT_CLONES void losses(const CrossEntropyForward<double>& a, int64_t begin, int64_t end) {
  losses_body(a, begin, end);
}

/// Σ values in float64, block by block.
template <class T>
double blocked_sum(const T* values, int64_t n) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kSumBlock) {
    double sum = 0;
    for (int64_t i = begin; i < std::min(begin + kSumBlock, n); ++i) sum += static_cast<double>(values[i]);
    total += sum;
  }
  return total;
}

/// One row of dlogits.
template <bool kAdd, class T>
MOEUT_INLINE void gradient_row(const T* x, int64_t n, int32_t target, T lse, T factor, T* dx) {
  if (target < 0) {
    if constexpr (!kAdd) std::fill_n(dx, n, T(0));
    return;
  }
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) put<kAdd>(dx[j], factor * fast_exp(x[j] - lse));
  dx[target] -= factor;
}

template <class T>
MOEUT_INLINE void gradients_body(const CrossEntropyBackward<T>& a, int64_t begin, int64_t end) {
  const T factor = static_cast<T>((a.dloss == nullptr ? 1 : static_cast<double>(*a.dloss)) * a.scale);
  for (int64_t i = begin; i < end; ++i) {
    const T* x = a.logits + i * a.ld_logits;
    T* dx = a.dlogits + i * a.ld_dlogits;
    a.mode == Mode::accumulate ? gradient_row<true>(x, a.vocabulary, a.target[i], a.lse[i], factor, dx)
                               : gradient_row<false>(x, a.vocabulary, a.target[i], a.lse[i], factor, dx);
  }
}
MOEUT_CLONES void gradients(const CrossEntropyBackward<float>& a, int64_t begin, int64_t end) {
  gradients_body(a, begin, end);
}
MOEUT_CLONES void gradients(const CrossEntropyBackward<double>& a, int64_t begin, int64_t end) {
  gradients_body(a, begin, end);
}

/// The gradient that a forward pass was asked for, from its own lse.
template <class T>
CrossEntropyBackward<T> backward_of(const CrossEntropyForward<T>& a) {
  return {.rows = a.rows,
          .vocabulary = a.vocabulary,
          .logits = a.logits,
          .ld_logits = a.ld_logits,
          .target = a.target,
          .scale = a.scale,
          .lse = a.lse,
          .dloss = a.dloss,
          .dlogits = a.dlogits,
          .ld_dlogits = a.ld_logits};
}

}  // namespace

template <class T>
void cross_entropy_forward(Cpu tag, const Launch& launch, const CrossEntropyForward<T>& args) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t elements = extent(args.rows, args.vocabulary, args.ld_logits);
    cross_entropy_forward<float>(tag, launch,
                                 {.rows = args.rows,
                                  .vocabulary = args.vocabulary,
                                  .logits = f.in(args.logits, elements),
                                  .ld_logits = args.ld_logits,
                                  .target = args.target,
                                  .lse = args.lse,
                                  .row_loss = args.row_loss,
                                  .dlogits = f.out(args.dlogits, elements, args.ld_logits != args.vocabulary),
                                  .dloss = args.dloss,
                                  .scale = args.scale});
  } else {
    const CrossEntropyBackward<T> backward = backward_of(args);
    parallel_blocks(args.rows, kRows, [&](int64_t begin, int64_t end) {
      losses(args, begin, end);
      if (args.dlogits != nullptr) gradients(backward, begin, end);
    });
  }
}

template <class W>
void cross_entropy_total(Cpu, const Launch&, int64_t rows, double scale, const W* row_loss, W* loss) {
  *loss = static_cast<W>(scale * blocked_sum(row_loss, rows));
}

template <class T>
void cross_entropy_backward(Cpu tag, const Launch& launch, const CrossEntropyBackward<T>& args) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const bool keep = args.mode == Mode::accumulate || args.ld_dlogits != args.vocabulary;
    cross_entropy_backward<float>(
        tag, launch,
        {.rows = args.rows,
         .vocabulary = args.vocabulary,
         .logits = f.in(args.logits, extent(args.rows, args.vocabulary, args.ld_logits)),
         .ld_logits = args.ld_logits,
         .target = args.target,
         .scale = args.scale,
         .lse = args.lse,
         .dloss = args.dloss,
         .dlogits = f.out(args.dlogits, extent(args.rows, args.vocabulary, args.ld_dlogits), keep),
         .ld_dlogits = args.ld_dlogits,
         .mode = args.mode});
  } else {
    parallel_blocks(args.rows, kRows, [&](int64_t begin, int64_t end) { gradients(args, begin, end); });
  }
}

#define MOEUT_INSTANTIATE(T)                                                                 \
  template void cross_entropy_forward<T>(Cpu, const Launch&, const CrossEntropyForward<T>&); \
  template void cross_entropy_backward<T>(Cpu, const Launch&, const CrossEntropyBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE
template void cross_entropy_total<float>(Cpu, const Launch&, int64_t, double, const float*, float*);
template void cross_entropy_total<double>(Cpu, const Launch&, int64_t, double, const double*, double*);

}  // namespace moeut::kernels
