#include "kernels/rope.h"

#include <cmath>
#include <vector>

#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

namespace {

template <class T>
void store(T* y, T value, Mode mode) {
  *y = mode == Mode::accumulate ? *y + value : value;
}

template <class T>
void rotate_head(const Rope<T>& a, const T* x, T* y, const T* cosine, const T* sine) {
  const int64_t half = a.n_rotate / 2;
  for (int64_t i = 0; i < half; ++i) {
    const T first = x[i], second = x[i + half];
    store(y + i, a.scale * (first * cosine[i] - second * sine[i]), a.mode);
    store(y + i + half, a.scale * (second * cosine[i] + first * sine[i]), a.mode);
  }
  for (int64_t i = a.n_rotate; i < a.head_dim; ++i) store(y + i, a.scale * x[i], a.mode);
}

}  // namespace

template <class T>
void rope(Cpu, const Launch&, const Rope<T>& a) {
  const int64_t half = a.n_rotate / 2;
  parallel_blocks(a.time, 16, [&](int64_t begin, int64_t end) {
    std::vector<T> cosine(static_cast<size_t>(half)), sine(static_cast<size_t>(half));
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(a.first_position + t) * std::pow(a.base, -2.0 * static_cast<double>(i) / static_cast<double>(a.n_rotate));
        cosine[static_cast<size_t>(i)] = static_cast<T>(std::cos(angle));
        sine[static_cast<size_t>(i)] = static_cast<T>(a.inverse ? -std::sin(angle) : std::sin(angle));
      }
      for (int64_t b = 0; b < a.batch; ++b) {
        const int64_t token = b * a.time + t;
        for (int64_t h = 0; h < a.heads; ++h) {
          rotate_head(a, a.x + token * a.ldx + h * a.head_dim, a.y + token * a.ldy + h * a.head_dim, cosine.data(), sine.data());
        }
      }
    }
  });
}

template void rope(Cpu, const Launch&, const Rope<float>&);
template void rope(Cpu, const Launch&, const Rope<double>&);

}  // namespace moeut::kernels
