#include "kernels/elementwise.h"

#include <cmath>

#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

namespace {
constexpr int64_t kBlock = 16384;
}

template <class T>
void scale_copy(Cpu, const Launch&, int64_t n, T scale, const T* x, T* y, Mode mode) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    if (mode == Mode::accumulate) {
      for (int64_t i = begin; i < end; ++i) y[i] += scale * x[i];
    } else {
      for (int64_t i = begin; i < end; ++i) y[i] = scale * x[i];
    }
  });
}

template <class T>
void add(Cpu, const Launch&, int64_t n, const T* a, const T* b, T* y) {
  parallel_blocks(n, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = a[i] + b[i];
  });
}

template <class T>
void add_bias(Cpu, const Launch&, int64_t rows, int64_t n, const T* bias, T* y, int64_t ldy) {
  parallel_blocks(rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < n; ++j) y[i * ldy + j] += bias[j];
    }
  });
}

template <class T>
void dropout(Cpu, const Launch&, const Dropout<T>& a) {
  const T keep = static_cast<T>(1 / (1 - a.p));
  parallel_blocks(a.sequences * a.n, kBlock, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float u = dropout_uniform(*a.rng, static_cast<uint64_t>(i / a.n), a.site, static_cast<uint64_t>(i % a.n));
      const T value = static_cast<double>(u) >= a.p ? keep * a.x[i] : T(0);
      a.y[i] = a.mode == Mode::accumulate ? a.y[i] + value : value;
    }
  });
}

template <class T>
void head_gate_forward(Cpu, const Launch&, int64_t rows, int64_t heads, int64_t head_dim, const T* x, const T* logit, T* y) {
  parallel_blocks(rows * heads, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T p = T(1) / (T(1) + std::exp(-logit[i]));
      for (int64_t j = i * head_dim; j < (i + 1) * head_dim; ++j) y[j] = p * x[j];
    }
  });
}

template <class T>
void head_gate_backward(Cpu, const Launch&, const HeadGateBackward<T>& a) {
  parallel_blocks(a.rows * a.heads, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T p = T(1) / (T(1) + std::exp(-a.logit[i]));
      T dot = 0;
      for (int64_t j = i * a.head_dim; j < (i + 1) * a.head_dim; ++j) {
        dot += a.dy[j] * a.x[j];
        if (a.dx != nullptr) a.dx[j] = a.dx_mode == Mode::accumulate ? a.dx[j] + p * a.dy[j] : p * a.dy[j];
      }
      if (a.dlogit == nullptr) continue;
      const T value = p * (T(1) - p) * dot;
      a.dlogit[i] = a.dlogit_mode == Mode::accumulate ? a.dlogit[i] + value : value;
    }
  });
}

#define MOEUT_INSTANTIATE(T)                                                                             \
  template void scale_copy(Cpu, const Launch&, int64_t, T, const T*, T*, Mode);                          \
  template void add(Cpu, const Launch&, int64_t, const T*, const T*, T*);                                \
  template void add_bias(Cpu, const Launch&, int64_t, int64_t, const T*, T*, int64_t);                   \
  template void dropout(Cpu, const Launch&, const Dropout<T>&);                                          \
  template void head_gate_forward(Cpu, const Launch&, int64_t, int64_t, int64_t, const T*, const T*, T*); \
  template void head_gate_backward(Cpu, const Launch&, const HeadGateBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
