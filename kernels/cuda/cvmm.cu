// Chooses how CVMM is computed: tensor cores for 16-bit types where rows are aligned, else the ordinary cores.
#include "kernels/cvmm.h"

#include <algorithm>
#include <vector>

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

/// Whether rows of 16-bit numbers, `ld` apart, can be written `bytes` at a time.
bool aligned_to(int bytes, int64_t ld, const void* data) {
  return ld * 2 % bytes == 0 && reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(bytes) == 0;
}

/// Elements, so that what follows is aligned to 16 bytes.
int64_t padded(int64_t elements) {
  return ceil_div(elements, 8) * 8;
}

/// The parts, with gated operands replaced by copies in the workspace.
template <class T>
std::vector<CvmmWeightPart<T>> without_gates(const Launch& launch, const CvmmWeightGradient<T>& args) {
  std::vector<CvmmWeightPart<T>> parts(args.parts.begin(), args.parts.end());
  T* free = static_cast<T*>(launch.workspace);
  const auto replace = [&](const Route& route, PairRows<T>& x, int64_t width) {
    if (x.gate == nullptr) return;
    if (route.pairs > 0) gather_rows(launch, route, x, width, free);
    x = {.data = free, .ld = width};
    free += padded(route.pairs * width);
  };
  for (CvmmWeightPart<T>& p : parts) {
    replace(p.route, p.a, args.in);
    replace(p.route, p.b, args.out);
  }
  return parts;
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
    if (copy > 0 && aligned_to(copy, args.ldy, args.y) && wgmma_available()) return cvmm_wgmma(launch, args, copy);
    if (copy > 0 && args.ldy % 2 == 0) return cvmm_mma(launch, args, copy);
  }
  cvmm_plain(launch, args);
}

/// Of operands with a gate the tensor-core kernels take a copy with the gate inside: (pairs, width), after another.
template <class T>
size_t cvmm_weight_gradient_workspace_bytes(Cuda, const CvmmWeightGradient<T>& args) {
  if (sizeof(T) != 2) return 0;
  int64_t elements = 0;
  for (const CvmmWeightPart<T>& p : args.parts) {
    if (p.a.gate != nullptr) elements += padded(p.route.pairs * args.in);
    if (p.b.gate != nullptr) elements += padded(p.route.pairs * args.out);
  }
  return static_cast<size_t>(elements) * sizeof(T);
}

template <class T>
void cvmm_weight_gradient(Cuda, const Launch& launch, const CvmmWeightGradient<T>& args) {
  if (args.experts * args.in * args.out == 0) return;
  if constexpr (sizeof(T) == 2) {
    int copy = args.parts.empty() ? 0 : 16;
    for (const CvmmWeightPart<T>& p : args.parts) {
      copy = std::min(copy, copy_bytes_for(p.a.ld, p.b.ld, args.in | args.out, p.a.data, p.b.data));
    }
    if (copy > 0) {
      CvmmWeightGradient<T> ungated = args;
      const std::vector<CvmmWeightPart<T>> parts = without_gates(launch, args);
      ungated.parts = parts;
      return wgmma_available() ? weight_gradient_wgmma(launch, ungated, copy)
                               : weight_gradient_mma(launch, ungated, copy);
    }
  }
  weight_gradient_plain(launch, args);
}

#define MOEUT_INSTANTIATE(T)                                                                   \
  template size_t cvmm_workspace_bytes<T>(Cuda, const Route&, int64_t, int64_t);               \
  template void cvmm<T>(Cuda, const Launch&, const Cvmm<T>&);                                  \
  template size_t cvmm_weight_gradient_workspace_bytes<T>(Cuda, const CvmmWeightGradient<T>&); \
  template void cvmm_weight_gradient<T>(Cuda, const Launch&, const CvmmWeightGradient<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
