#include "kernels/rope.h"

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

/// A thread for each token and pair that turns, or dim that only scales, in all heads: the angle is computed once.
template <class T>
__global__ void rope_kernel(Rope<T> a) {
  using W = Wide<T>;
  const int64_t half = a.n_rotate / 2, units = a.head_dim - half;
  for (int64_t i = first_element(); i < a.batch * a.time * units; i += element_step()) {
    const int64_t unit = i % units, token = i / units;
    const T* x = a.x + token * a.ldx;
    T* y = a.y + token * a.ldy;
    if (unit >= half) {
      const int64_t dim = unit + half;
      for (int64_t h = 0; h < a.heads; ++h)
        store(y + h * a.head_dim + dim, a.scale * W(x[h * a.head_dim + dim]), a.mode);
      continue;
    }
    const auto position = static_cast<double>(a.first_position + token % a.time);
    const double angle = position * pow(a.base, -2.0 * static_cast<double>(unit) / static_cast<double>(a.n_rotate));
    double sine, cosine;
    sincos(angle, &sine, &cosine);
    const W s = static_cast<W>(a.inverse ? -sine : sine), c = static_cast<W>(cosine);
    for (int64_t h = 0; h < a.heads; ++h) {
      const int64_t at = h * a.head_dim + unit;
      const W first = x[at], second = x[at + half];
      store(y + at, a.scale * (first * c - second * s), a.mode);
      store(y + at + half, a.scale * (second * c + first * s), a.mode);
    }
  }
}

}  // namespace

template <class T>
void rope(Cuda, const Launch& launch, const Rope<T>& args) {
  const int64_t n = args.batch * args.time * (args.head_dim - args.n_rotate / 2);
  if (n == 0) return;
  rope_kernel<T><<<grid_for(n, kThreads), kThreads, 0, stream_of(launch)>>>(args);
  check_launch("rope");
}

#define MOEUT_INSTANTIATE(T) template void rope<T>(Cuda, const Launch&, const Rope<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
