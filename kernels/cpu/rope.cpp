// Rotary embedding on the CPU. Angles of a block of positions: sine and cosine of its first one from the library, of
// the following ones by turning on, in float64 (16 turns cost less than 1e-14), rounded once.
#include "kernels/rope.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/narrow.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/put.h"
#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kPositions = 16;
constexpr int64_t kFrequencies = 64;

/// cos and sin of position · frequency for up to kFrequencies frequencies, one position after the other.
class Angles {
 public:
  Angles(double base, int64_t n_rotate, int64_t first_frequency, int64_t count, int64_t position) : count_(count) {
    for (int64_t i = 0; i < count; ++i) {
      const double f = std::pow(base, -2.0 * static_cast<double>(first_frequency + i) / static_cast<double>(n_rotate));
      const double angle = static_cast<double>(position) * f;
      cos_[i] = std::cos(angle);
      sin_[i] = std::sin(angle);
      step_cos_[i] = std::cos(f);
      step_sin_[i] = std::sin(f);
    }
  }

  /// Turns on by one position.
  void advance() {
    for (int64_t i = 0; i < count_; ++i) {
      const double c = cos_[i] * step_cos_[i] - sin_[i] * step_sin_[i];
      sin_[i] = sin_[i] * step_cos_[i] + cos_[i] * step_sin_[i];
      cos_[i] = c;
    }
  }

  /// factor · (cos, sin), the sine's sign turned for the inverse rotation.
  template <class T>
  void scaled(T factor, bool inverse, T* cos, T* sin) const {
    for (int64_t i = 0; i < count_; ++i) {
      cos[i] = factor * static_cast<T>(cos_[i]);
      sin[i] = (inverse ? -factor : factor) * static_cast<T>(sin_[i]);
    }
  }

 private:
  int64_t count_;
  double cos_[kFrequencies], sin_[kFrequencies], step_cos_[kFrequencies], step_sin_[kFrequencies];
};

/// Turns the pairs [first, first + count) of every head of one token.
template <bool kAdd, class T>
MOEUT_INLINE void rotate_token(const Rope<T>& a, const T* x, T* y, int64_t first, int64_t count, const T* cos,
                               const T* sin) {
  const int64_t half = a.n_rotate / 2;
  for (int64_t h = 0; h < a.heads; ++h) {
    const T *x0 = x + h * a.head_dim + first, *x1 = x0 + half;
    T *y0 = y + h * a.head_dim + first, *y1 = y0 + half;
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
      const T u = x0[i], v = x1[i];
      put<kAdd>(y0[i], u * cos[i] - v * sin[i]);
      put<kAdd>(y1[i], v * cos[i] + u * sin[i]);
    }
  }
}

/// The dims that do not rotate.
template <bool kAdd, class T>
MOEUT_INLINE void scale_token(const Rope<T>& a, const T* x, T* y) {
  for (int64_t h = 0; h < a.heads; ++h) {
    const T* from = x + h * a.head_dim;
    T* to = y + h * a.head_dim;
#pragma omp simd
    for (int64_t i = a.n_rotate; i < a.head_dim; ++i) put<kAdd>(to[i], a.scale * from[i]);
  }
}

template <bool kAdd, class T>
MOEUT_INLINE void positions_body(const Rope<T>& a, int64_t begin, int64_t end) {
  for (int64_t first = 0; first < a.n_rotate / 2; first += kFrequencies) {
    const int64_t count = std::min(kFrequencies, a.n_rotate / 2 - first);
    Angles angles(a.base, a.n_rotate, first, count, a.first_position + begin);
    T cos[kFrequencies], sin[kFrequencies];
    for (int64_t t = begin; t < end; ++t, angles.advance()) {
      angles.scaled(a.scale, a.inverse, cos, sin);
      for (int64_t b = 0; b < a.batch; ++b) {
        const int64_t token = b * a.time + t;
        rotate_token<kAdd>(a, a.x + token * a.ldx, a.y + token * a.ldy, first, count, cos, sin);
      }
    }
  }
  if (a.n_rotate == a.head_dim) return;
  for (int64_t b = 0; b < a.batch; ++b) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t token = b * a.time + t;
      scale_token<kAdd>(a, a.x + token * a.ldx, a.y + token * a.ldy);
    }
  }
}

template <class T>
MOEUT_INLINE void positions_by_mode(const Rope<T>& a, int64_t begin, int64_t end) {
  a.mode == Mode::accumulate ? positions_body<true>(a, begin, end) : positions_body<false>(a, begin, end);
}
MOEUT_CLONES void rotate_positions(const Rope<float>& a, int64_t begin, int64_t end) {
  positions_by_mode(a, begin, end);
}
MOEUT_CLONES void rotate_positions(const Rope<double>& a, int64_t begin, int64_t end) {
  positions_by_mode(a, begin, end);
}

}  // namespace

template <class T>
void rope(Cpu tag, const Launch& launch, const Rope<T>& args) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t tokens = args.batch * args.time, width = args.heads * args.head_dim;
    rope<float>(
        tag, launch,
        {.batch = args.batch,
         .time = args.time,
         .heads = args.heads,
         .head_dim = args.head_dim,
         .n_rotate = args.n_rotate,
         .first_position = args.first_position,
         .base = args.base,
         .scale = args.scale,
         .inverse = args.inverse,
         .x = f.in(args.x, extent(tokens, width, args.ldx)),
         .ldx = args.ldx,
         .y = f.out(args.y, extent(tokens, width, args.ldy), args.mode == Mode::accumulate || args.ldy != width),
         .ldy = args.ldy,
         .mode = args.mode});
  } else {
    parallel_blocks(args.time, kPositions, [&](int64_t begin, int64_t end) { rotate_positions(args, begin, end); });
  }
}

#define MOEUT_INSTANTIATE(T) template void rope<T>(Cpu, const Launch&, const Rope<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
