#include "kernels/elementwise.h"

#include <algorithm>

#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/put.h"
#include "kernels/cpu/sigmoid.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/uniforms.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kBlock = 16384;  // elements a piece of flat work

/// Rows of n elements that make up about one block.
int64_t block_rows(int64_t n) {
  return std::max<int64_t>(1, kBlock / std::max<int64_t>(n, 1));
}

template <class T>
MOEUT_INLINE void scale_body(int64_t n, T scale, const T* x, T* y, Mode mode) {
  if (mode == Mode::accumulate) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] += scale * x[i];
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) y[i] = scale * x[i];
  }
}
MOEUT_CLONES void scale_block(int64_t n, float scale, const float* x, float* y, Mode mode) {
  scale_body(n, scale, x, y, mode);
}
MOEUT_CLONES void scale_block(int64_t n, double scale, const double* x, double* y, Mode mode) {
  scale_body(n, scale, x, y, mode);
}

template <class T>
MOEUT_INLINE void add_body(int64_t n, const T* a, const T* b, T* y) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] + b[i];
}
MOEUT_CLONES void add_block(int64_t n, const float* a, const float* b, float* y) {
  add_body(n, a, b, y);
}
MOEUT_CLONES void add_block(int64_t n, const double* a, const double* b, double* y) {
  add_body(n, a, b, y);
}

/// Elements [first, first + n) of one sequence.
template <bool kAdd, class T>
MOEUT_INLINE void drop_run(const Dropout<T>& a, int64_t sequence, int64_t first, int64_t n) {
  DropoutUniforms uniforms;
  const float* u = uniforms.fill(*a.rng, static_cast<uint64_t>(sequence), a.site, static_cast<uint64_t>(first), n);
  const float threshold = dropout_threshold(a.p);
  const T scale = static_cast<T>(1 / (1 - a.p));
  const T* x = a.x + sequence * a.n + first;
  T* y = a.y + sequence * a.n + first;
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    const T kept =
        u[i] >= threshold ? x[i] : T(0);  // chosen before the product, which in one arm would be control flow to gcc
    put<kAdd>(y[i], kept * scale);
  }
}

template <class T>
MOEUT_INLINE void drop_body(const Dropout<T>& a, int64_t sequence, int64_t begin, int64_t end) {
  for (int64_t first = begin; first < end; first += DropoutUniforms::kElements) {
    const int64_t n = std::min(DropoutUniforms::kElements, end - first);
    a.mode == Mode::accumulate ? drop_run<true>(a, sequence, first, n) : drop_run<false>(a, sequence, first, n);
  }
}
MOEUT_CLONES void drop_block(const Dropout<float>& a, int64_t sequence, int64_t begin, int64_t end) {
  drop_body(a, sequence, begin, end);
}
MOEUT_CLONES void drop_block(const Dropout<double>& a, int64_t sequence, int64_t begin, int64_t end) {
  drop_body(a, sequence, begin, end);
}

/// y = sigmoid(logit) · x, one head of one row after the other.
template <class T>
MOEUT_INLINE void gate_forward_body(int64_t gates, int64_t head_dim, const T* x, const T* logit, T* y) {
  for (int64_t g = 0; g < gates; ++g) {
    const T p = sigmoid(logit[g]);
#pragma omp simd
    for (int64_t j = 0; j < head_dim; ++j) y[g * head_dim + j] = p * x[g * head_dim + j];
  }
}
MOEUT_CLONES void gate_forward(int64_t gates, int64_t head_dim, const float* x, const float* logit, float* y) {
  gate_forward_body(gates, head_dim, x, logit, y);
}
MOEUT_CLONES void gate_forward(int64_t gates, int64_t head_dim, const double* x, const double* logit, double* y) {
  gate_forward_body(gates, head_dim, x, logit, y);
}

template <class T>
MOEUT_INLINE T dot(int64_t n, const T* a, const T* b) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; ++j) sum += a[j] * b[j];
  return sum;
}

/// Gates [begin, end) of the rows · heads gates. The dot product comes first: dx may overwrite dy.
template <class T>
MOEUT_INLINE void gate_backward_body(const HeadGateBackward<T>& a, int64_t begin, int64_t end) {
  for (int64_t g = begin; g < end; ++g) {
    const T p = sigmoid(a.logit[g]);
    const T* dy = a.dy + g * a.head_dim;
    if (a.dlogit != nullptr) {
      const T d = p * (T(1) - p) * dot(a.head_dim, dy, a.x + g * a.head_dim);
      a.dlogit[g] = a.dlogit_mode == Mode::accumulate ? a.dlogit[g] + d : d;
    }
    if (a.dx != nullptr) scale_body(a.head_dim, p, dy, a.dx + g * a.head_dim, a.dx_mode);
  }
}
MOEUT_CLONES void gate_backward(const HeadGateBackward<float>& a, int64_t begin, int64_t end) {
  gate_backward_body(a, begin, end);
}
MOEUT_CLONES void gate_backward(const HeadGateBackward<double>& a, int64_t begin, int64_t end) {
  gate_backward_body(a, begin, end);
}

}  // namespace

template <class T>
void fill(Cpu, const Launch&, int64_t n, T value, T* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) { std::fill(y + begin, y + end, value); });
}

template <class T>
void scale_copy(Cpu tag, const Launch& launch, int64_t n, Wide<T> scale, const T* x, T* y, Mode mode) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    scale_copy<float>(tag, launch, n, scale, f.in(x, n), f.out(y, n, mode == Mode::accumulate), mode);
  } else {
    parallel_blocks(n, kBlock,
                    [=](int64_t begin, int64_t end) { scale_block(end - begin, scale, x + begin, y + begin, mode); });
  }
}

template <class T>
void scale_by_ratio(Cpu tag, const Launch& launch, int64_t n, const Wide<T>* dividend, const Wide<T>* divisor,
                    const T* x, T* y, Mode mode) {
  scale_copy<T>(tag, launch, n, divisor == nullptr ? *dividend : *dividend / *divisor, x, y, mode);
}

template <class From, class To>
void cast(Cpu, const Launch&, int64_t n, const From* x, To* y, Mode mode) {
  using W = Wide<To>;
  parallel_blocks(n, kBlock, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const W value = Wide<From>(x[i]);
      y[i] = To(mode == Mode::accumulate ? W(y[i]) + value : value);
    }
  });
}

template <class From, class To>
void copy_padded(Cpu, const Launch&, const PaddedCopy<From, To>& a) {
  using W = Wide<To>;
  parallel_blocks(a.padded_rows, block_rows(a.padded_width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t j = 0; j < a.padded_width; ++j) {
        const bool inside = row < a.rows && j < a.width;
        const W value = inside ? W(Wide<From>(a.x[row * a.ldx + j])) : W(0);
        To& y = a.y[row * a.padded_width + j];
        y = To(a.mode == Mode::accumulate ? W(y) + value : value);
      }
    }
  });
}

template <class T>
void add(Cpu tag, const Launch& launch, int64_t n, const T* a, const T* b, T* y) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    add<float>(tag, launch, n, f.in(a, n), f.in(b, n), f.out(y, n, false));
  } else {
    parallel_blocks(n, kBlock,
                    [=](int64_t begin, int64_t end) { add_block(end - begin, a + begin, b + begin, y + begin); });
  }
}

template <class T>
void add_bias(Cpu tag, const Launch& launch, int64_t rows, int64_t n, const Wide<T>* bias, T* y, int64_t ldy) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    add_bias<float>(tag, launch, rows, n, bias, f.out(y, extent(rows, n, ldy), true), ldy);
  } else {
    parallel_blocks(rows, block_rows(n), [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) add_block(n, y + i * ldy, bias, y + i * ldy);
    });
  }
}

template <class T>
void dropout(Cpu tag, const Launch& launch, const Dropout<T>& args) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t n = args.sequences * args.n;
    dropout<float>(tag, launch,
                   {.sequences = args.sequences,
                    .n = args.n,
                    .p = args.p,
                    .rng = args.rng,
                    .site = args.site,
                    .x = f.in(args.x, n),
                    .y = f.out(args.y, n, args.mode == Mode::accumulate),
                    .mode = args.mode});
  } else {
    const int64_t blocks = (args.n + kBlock - 1) / kBlock;
    parallel_pieces(args.sequences * blocks, [&](int64_t piece, int) {
      const int64_t begin = piece % blocks * kBlock;
      drop_block(args, piece / blocks, begin, std::min(begin + kBlock, args.n));
    });
  }
}

template <class T>
void head_gate_forward(Cpu tag, const Launch& launch, int64_t rows, int64_t heads, int64_t head_dim, const T* x,
                       const Wide<T>* logit, T* y) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t n = rows * heads * head_dim;
    head_gate_forward<float>(tag, launch, rows, heads, head_dim, f.in(x, n), logit, f.out(y, n, false));
  } else {
    parallel_blocks(rows * heads, block_rows(head_dim), [=](int64_t begin, int64_t end) {
      gate_forward(end - begin, head_dim, x + begin * head_dim, logit + begin, y + begin * head_dim);
    });
  }
}

template <class T>
void head_gate_backward(Cpu tag, const Launch& launch, const HeadGateBackward<T>& args) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t n = args.rows * args.heads * args.head_dim;
    head_gate_backward<float>(tag, launch,
                              {.rows = args.rows,
                               .heads = args.heads,
                               .head_dim = args.head_dim,
                               .x = f.in(args.x, n),
                               .logit = args.logit,
                               .dy = f.in(args.dy, n),
                               .dx = f.out(args.dx, n, args.dx_mode == Mode::accumulate),
                               .dx_mode = args.dx_mode,
                               .dlogit = args.dlogit,
                               .dlogit_mode = args.dlogit_mode});
  } else {
    parallel_blocks(args.rows * args.heads, block_rows(args.head_dim),
                    [&](int64_t begin, int64_t end) { gate_backward(args, begin, end); });
  }
}

template void fill<float>(Cpu, const Launch&, int64_t, float, float*);
template void fill<double>(Cpu, const Launch&, int64_t, double, double*);
#define MOEUT_INSTANTIATE(T)                                                                                        \
  template void scale_copy<T>(Cpu, const Launch&, int64_t, Wide<T>, const T*, T*, Mode);                            \
  template void scale_by_ratio<T>(Cpu, const Launch&, int64_t, const Wide<T>*, const Wide<T>*, const T*, T*, Mode); \
  template void add<T>(Cpu, const Launch&, int64_t, const T*, const T*, T*);                                        \
  template void add_bias<T>(Cpu, const Launch&, int64_t, int64_t, const Wide<T>*, T*, int64_t);                     \
  template void dropout<T>(Cpu, const Launch&, const Dropout<T>&);                                                  \
  template void head_gate_forward<T>(Cpu, const Launch&, int64_t, int64_t, int64_t, const T*, const Wide<T>*, T*);  \
  template void head_gate_backward<T>(Cpu, const Launch&, const HeadGateBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

#define MOEUT_INSTANTIATE(T)                                                         \
  template void cast<float, T>(Cpu, const Launch&, int64_t, const float*, T*, Mode); \
  template void cast<T, float>(Cpu, const Launch&, int64_t, const T*, float*, Mode); \
  template void copy_padded(Cpu, const Launch&, const PaddedCopy<float, T>&);        \
  template void copy_padded(Cpu, const Launch&, const PaddedCopy<T, T>&);
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE
template void copy_padded(Cpu, const Launch&, const PaddedCopy<float, float>&);

}  // namespace moeut::kernels
