#include "kernels/cuda/cvmm_mma.cuh"

#include "kernels/cuda/cvmm_paths.h"

namespace moeut::kernels::cuda {

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
  in_launches(args, [&](const WeightParts<T>& parts, Mode mode) {
    with_copy(copy, [&](auto bytes) {
      const auto kernel = weight_gradient_mma_kernel<T, bytes.value>;
      allow_shared(kernel, kMmaSharedBytes);
      kernel<<<grid, kMmaThreads, kMmaSharedBytes, stream_of(launch)>>>(args.in, args.out, parts, args.dweight, mode);
    });
    check_launch("cvmm_weight_gradient: tensor cores");
  });
}

#define MOEUT_INSTANTIATE(T)                                     \
  template void cvmm_mma<T>(const Launch&, const Cvmm<T>&, int); \
  template void weight_gradient_mma<T>(const Launch&, const CvmmWeightGradient<T>&, int);
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels::cuda
