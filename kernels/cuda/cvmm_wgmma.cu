#include "kernels/cuda/cvmm_wgmma.cuh"

#include "kernels/cuda/cvmm_paths.h"

namespace moeut::kernels::cuda {

namespace {

__device__ int compiled_with_wgmma = MOEUT_HAS_WGMMA;

bool ask_device() {
  int there = 0;
  const cudaError_t status = cudaMemcpyFromSymbol(&there, compiled_with_wgmma, sizeof(there));
  if (status != cudaSuccess) throw BackendError(std::string("cvmm: cuda: ") + cudaGetErrorString(status));
  return there == 1;
}

}  // namespace

bool wgmma_available() {
  static const bool there = ask_device();
  return there;
}

template <class T>
void cvmm_wgmma(const Launch& launch, const Cvmm<T>& args, int copy) {
  const TileList list = list_tiles(launch, args.route, kGmmaTile);
  const int64_t column_tiles = ceil_div(args.out, kGmmaTile);
  const auto blocks = static_cast<unsigned>(most_tiles(args.route, kGmmaTile) * column_tiles);
  with_copy(copy, [&](auto bytes) {
    const auto kernel =
        args.transpose ? cvmm_wgmma_kernel<T, bytes.value, true> : cvmm_wgmma_kernel<T, bytes.value, false>;
    allow_shared(kernel, kGmmaSharedBytes);
    kernel<<<blocks, kGmmaThreads, kGmmaSharedBytes, stream_of(launch)>>>(args, list.expert, list.first,
                                                                          static_cast<int>(column_tiles));
  });
  check_launch("cvmm: wgmma");
}

template <class T>
void weight_gradient_wgmma(const Launch& launch, const CvmmWeightGradient<T>& args, int copy) {
  const dim3 grid(static_cast<unsigned>(ceil_div(args.out, kGmmaTile)),
                  static_cast<unsigned>(ceil_div(args.in, kGmmaTile)), static_cast<unsigned>(args.experts));
  in_launches(args, [&](const WeightParts<T>& parts, Mode mode) {
    with_copy(copy, [&](auto bytes) {
      const auto kernel = weight_gradient_wgmma_kernel<T, bytes.value>;
      allow_shared(kernel, kGmmaSharedBytes);
      kernel<<<grid, kGmmaThreads, kGmmaSharedBytes, stream_of(launch)>>>(args.in, args.out, parts, args.dweight, mode);
    });
    check_launch("cvmm_weight_gradient: wgmma");
  });
}

#define MOEUT_INSTANTIATE(T)                                       \
  template void cvmm_wgmma<T>(const Launch&, const Cvmm<T>&, int); \
  template void weight_gradient_wgmma<T>(const Launch&, const CvmmWeightGradient<T>&, int);
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels::cuda
