#include "kernels/cuda/cvmm_mma.cuh"

#include <algorithm>
#include <type_traits>

#include "kernels/cuda/cvmm_paths.h"

namespace moeut::kernels::cuda {

namespace {

/// f(std::integral_constant<int, copy>).
template <class F>
void with_copy(int copy, F&& f) {
  if (copy == 16) return f(std::integral_constant<int, 16>());
  if (copy == 8) return f(std::integral_constant<int, 8>());
  f(std::integral_constant<int, 4>());
}

template <class Kernel>
void allow_shared(Kernel* kernel, int bytes) {
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (status != cudaSuccess) throw BackendError(std::string("cvmm: cuda: ") + cudaGetErrorString(status));
}

}  // namespace

template <class T>
void cvmm_mma(const Launch& launch, const Cvmm<T>& args, int copy) {
  const TileList list = list_tiles(launch, args.route, kMmaTile);
  const int64_t column_tiles = ceil_div(args.out, kMmaTile);
  const auto blocks = static_cast<unsigned>(most_tiles(args.route, kMmaTile) * column_tiles);
  with_copy(copy, [&](auto bytes) {
    const auto kernel = args.transpose ? cvmm_mma_kernel<T, bytes.value, true> : cvmm_mma_kernel<T, bytes.value, false>;
    allow_shared(kernel, kMmaSharedBytes);
    kernel<<<blocks, kMmaThreads, kMmaSharedBytes, stream_of(launch)>>>(args, list.expert, list.first,
                                                                        static_cast<int>(column_tiles));
  });
  check_launch("cvmm: tensor cores");
}

template <class T>
void weight_gradient_mma(const Launch& launch, const CvmmWeightGradient<T>& args, int copy) {
  const dim3 grid(static_cast<unsigned>(ceil_div(args.out, kMmaTile)),
                  static_cast<unsigned>(ceil_div(args.in, kMmaTile)), static_cast<unsigned>(args.experts));
  Mode mode = args.mode;
  for (size_t done = 0; done < args.parts.size(); done += kMmaParts) {
    MmaParts<T> parts;
    parts.count = static_cast<int>(std::min<size_t>(kMmaParts, args.parts.size() - done));
    for (int i = 0; i < parts.count; ++i) parts.part[i] = args.parts[done + static_cast<size_t>(i)];
    with_copy(copy, [&](auto bytes) {
      const auto kernel = weight_gradient_mma_kernel<T, bytes.value>;
      allow_shared(kernel, kMmaSharedBytes);
      kernel<<<grid, kMmaThreads, kMmaSharedBytes, stream_of(launch)>>>(args.in, args.out, parts, args.dweight, mode);
    });
    check_launch("cvmm_weight_gradient: tensor cores");
    mode = Mode::accumulate;
  }
}

#define MOEUT_INSTANTIATE(T)                                     \
  template void cvmm_mma<T>(const Launch&, const Cvmm<T>&, int); \
  template void weight_gradient_mma<T>(const Launch&, const CvmmWeightGradient<T>&, int);
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels::cuda
