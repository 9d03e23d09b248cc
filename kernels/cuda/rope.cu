#include "kernels/rope.h"

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;

/// A thread for each pair that turns and each dim that only scales.
template <class T>
__global__ void rope_kernel(Rope<T> a) {
  const int64_t half = a.n_rotate / 2, units = a.head_dim - half;
  for (int64_t i = first_element(); i < a.batch * a.time * a.heads * units; i += element_step()) {
    using W = Wide<T>;
    const int64_t unit = i % units, head = i / units % a.heads, token = i / units / a.heads;
    const T* x = a.x + token * a.ldx + head * a.head_dim;
    T* y = a.y + token * a.ldy + head * a.head_dim;
    if (unit >= half) {
      const int64_t dim = unit + half;
      store(y + dim, a.scale * W(x[dim]), a.mode);
      continue;
    }
    const auto position = static_cast<double>(a.first_position + token % a.time);
    const double angle = position * pow(a.base, -2.0 * static_cast<double>(unit) / static_cast<double>(a.n_rotate));
    double sine, cosine;
    sincos(angle, &sine, &cosine);
    const W s = static_cast<W>(a.inverse ? -sine : sine), c = static_cast<W>(cosine);
    const W first = x[unit], second = x[unit + half];
    store(y + unit, a.scale * (first * c - second * s), a.mode);
    store(y + unit + half, a.scale * (second * c + first * s), a.mode);
  }
}

}  // namespace

template <class T>
void rope(Cuda, const Launch& launch, const Rope<T>& args) {
  const int64_t n = args.batch * args.time * args.heads * (args.head_dim - args.n_rotate / 2);
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
