// Chooses how CVMM is computed: tensor cores for 16-bit types where rows are aligned, else the ordinary cores.
#include "kernels/cvmm.h"

#include <algorithm>

#include "kernels/cuda/cvmm_paths.h"
#include "kernels/cuda/cvmm_tiles.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;

/// The widest copy (16, 8 or 4 bytes) that 16-bit rows of these lengths and beginnings allow; 0: none.
int copy_bytes_for(int64_t a, int64_t b, int64_t c, const void* x, const void* y) {
  const auto all =
      static_cast<uint64_t>((a | b | c) * 2) | reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y);
  return all % 16 == 0 ? 16 : all % 8 == 0 ? 8 : all % 4 == 0 ? 4 : 0;
}

}  // namespace

template <class T>
size_t cvmm_workspace_bytes(Cuda, const Route& route, int64_t, int64_t) {
  return tile_list_bytes(route, kPlainTile);
}

template <class T>
void cvmm(Cuda, const Launch& launch, const Cvmm<T>& args) {
  if (args.route.pairs == 0 || args.out == 0) return;
  if constexpr (sizeof(T) == 2) {
    const int copy = copy_bytes_for(args.x.ld, args.in, args.out, args.x.data, args.weight);
    if (copy > 0 && args.ldy % 2 == 0) return cvmm_mma(launch, args, copy);
  }
  cvmm_plain(launch, args);
}

template <class T>
size_t cvmm_weight_gradient_workspace_bytes(Cuda, int64_t, int64_t) {
  return 0;
}

template <class T>
void cvmm_weight_gradient(Cuda, const Launch& launch, const CvmmWeightGradient<T>& args) {
  if (args.experts * args.in * args.out == 0) return;
  if constexpr (sizeof(T) == 2) {
    int copy = args.parts.empty() ? 0 : 16;
    for (const CvmmWeightPart<T>& p : args.parts) {
      copy = std::min(copy, copy_bytes_for(p.a.ld, p.b.ld, args.in | args.out, p.a.data, p.b.data));
    }
    if (copy > 0) return weight_gradient_mma(launch, args, copy);
  }
  weight_gradient_plain(launch, args);
}

#define MOEUT_INSTANTIATE(T)                                                       \
  template size_t cvmm_workspace_bytes<T>(Cuda, const Route&, int64_t, int64_t);   \
  template void cvmm<T>(Cuda, const Launch&, const Cvmm<T>&);                      \
  template size_t cvmm_weight_gradient_workspace_bytes<T>(Cuda, int64_t, int64_t); \
  template void cvmm_weight_gradient<T>(Cuda, const Launch&, const CvmmWeightGradient<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
