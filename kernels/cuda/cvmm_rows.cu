// The parts of an expert layer that work row by row: gather-sum, d-gate, and the hidden layer's backward.
#include <algorithm>

#include "kernels/cuda/cvmm_paths.h"
#include "kernels/cuda/cvmm_tiles.cuh"
#include "kernels/cuda/mma.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;

constexpr int kRowThreads = 256;

/// Four neighbours of a 16-bit type at once.
template <class T>
struct alignas(8) Four {
  T x[4];
};

/// Whether rows of `width`, `ld` apart, can be read four neighbours at a time.
template <class T>
bool in_fours(int64_t width, int64_t ld, const void* data) {
  return sizeof(T) == 2 && width % 4 == 0 && ld % 4 == 0 && reinterpret_cast<uintptr_t>(data) % 8 == 0;
}

/// A block for each output row, four neighbours a thread.
template <class T, class Out>
__global__ void __launch_bounds__(kRowThreads) combine_fours_kernel(CvmmCombine<T, Out> a) {
  const int64_t row = blockIdx.x;
  for (int64_t j = threadIdx.x * 4; j < a.width; j += blockDim.x * 4) {
    float sum[4] = {};
#pragma unroll 4
    for (int64_t s = row * a.group; s < (row + 1) * a.group; ++s) {
      const auto y = *reinterpret_cast<const Four<T>*>(a.y + a.route.place[s] * a.ldy + j);
      const float gate = a.gate != nullptr ? a.gate[s] : 1.0f;
      for (int e = 0; e < 4; ++e) sum[e] += gate * float(y.x[e]);
    }
    for (int e = 0; e < 4; ++e) store(a.out + row * a.ldout + j + e, sum[e], a.mode);
  }
}

/// A block for each output row.
template <class T, class Out>
__global__ void __launch_bounds__(kRowThreads) combine_kernel(CvmmCombine<T, Out> a) {
  const int64_t row = blockIdx.x;
  for (int64_t j = threadIdx.x; j < a.width; j += kRowThreads) {
    Wide<T> sum = 0;
    for (int64_t s = row * a.group; s < (row + 1) * a.group; ++s) {
      const Wide<T> value = a.y[a.route.place[s] * a.ldy + j];
      sum += a.gate != nullptr ? a.gate[s] * value : value;
    }
    store(a.out + row * a.ldout + j, sum, a.mode);
  }
}

/// A warp for each pair.
template <class T>
__global__ void __launch_bounds__(kRowThreads) gate_gradient_kernel(CvmmGateGradient<T> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t s = first_element() / 32; s < a.route.pairs; s += element_step() / 32) {
    const int64_t place = a.route.place[s];
    const T *y = a.y + place * a.ldy, *x = row_pointer(a.x, a.route, place).data;
    Wide<T> dot = 0;
    for (int64_t j = lane; j < a.width; j += 32) dot += Wide<T>(y[j]) * Wide<T>(x[j]);
    dot = warp_sum(dot);
    if (lane == 0) a.dgate[s] = dot;
  }
}

/// A warp for each place.
template <class T>
__global__ void __launch_bounds__(kRowThreads) gather_rows_kernel(Route route, PairRows<T> x, int64_t width, T* y) {
  const int lane = threadIdx.x % 32;
  for (int64_t r = first_element() / 32; r < route.pairs; r += element_step() / 32) {
    const RowPointer<T> row = row_pointer(x, route, r);
    for (int64_t j = lane * 2; j < width; j += 64) {
      const float2 pair = unpack<T>(*reinterpret_cast<const uint32_t*>(row.data + j));
      *reinterpret_cast<uint32_t*>(y + r * width + j) = pack<T>(row.gate * pair.x, row.gate * pair.y);
    }
  }
}

/// A warp for each place, four neighbours a lane.
template <class T>
__global__ void __launch_bounds__(kRowThreads) hidden_backward_fours_kernel(CvmmHiddenBackward<T> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t r = first_element() / 32; r < a.route.pairs; r += element_step() / 32) {
    const int64_t s = a.route.order[r];
    const float gate = a.gate[s];
    float dot = 0;
    for (int64_t j = lane * 4; j < a.width; j += 128) {
      auto* h_place = reinterpret_cast<Four<T>*>(a.h + r * a.width + j);
      Four<T> h = *h_place;
      auto* place = reinterpret_cast<Four<T>*>(a.da + r * a.width + j);
      Four<T> da = *place;
      for (int e = 0; e < 4; ++e) {
        const float value = float(h.x[e]);
        dot += float(da.x[e]) * value;
        da.x[e] = T(value > 0 ? gate * float(da.x[e]) : 0.0f);
        h.x[e] = T(gate * value);
      }
      *place = da;
      *h_place = h;
    }
    dot = warp_sum(dot);
    if (lane == 0) a.dgate[s] = dot;
  }
}

/// A warp for each place.
template <class T>
__global__ void __launch_bounds__(kRowThreads) hidden_backward_kernel(CvmmHiddenBackward<T> a) {
  const int lane = threadIdx.x % 32;
  for (int64_t r = first_element() / 32; r < a.route.pairs; r += element_step() / 32) {
    const int64_t s = a.route.order[r];
    const Wide<T> gate = a.gate[s];
    Wide<T> dot = 0;
    for (int64_t j = lane; j < a.width; j += 32) {
      const Wide<T> h = a.h[r * a.width + j], da = a.da[r * a.width + j];
      dot += da * h;
      a.da[r * a.width + j] = T(h > Wide<T>(0) ? gate * da : Wide<T>(0));
      a.h[r * a.width + j] = T(gate * h);
    }
    dot = warp_sum(dot);
    if (lane == 0) a.dgate[s] = dot;
  }
}

}  // namespace

template <class T, class Out>
void cvmm_combine(Cuda, const Launch& launch, const CvmmCombine<T, Out>& args) {
  const int64_t rows = args.route.pairs / args.group;
  if (rows == 0) return;
  if constexpr (sizeof(T) == 2) {
    if (in_fours<T>(args.width, args.ldy, args.y)) {
      const int threads = static_cast<int>(std::min<int64_t>(kRowThreads, ceil_div(args.width, 128) * 32));
      combine_fours_kernel<<<static_cast<unsigned>(rows), threads, 0, stream_of(launch)>>>(args);
      return check_launch("cvmm_combine");
    }
  }
  combine_kernel<<<static_cast<unsigned>(rows), kRowThreads, 0, stream_of(launch)>>>(args);
  check_launch("cvmm_combine");
}

template <class T>
void cvmm_gate_gradient(Cuda, const Launch& launch, const CvmmGateGradient<T>& args) {
  if (args.route.pairs == 0) return;
  gate_gradient_kernel<T><<<grid_for(args.route.pairs * 32, kRowThreads), kRowThreads, 0, stream_of(launch)>>>(args);
  check_launch("cvmm_gate_gradient");
}

template <class T>
void cvmm_hidden_backward(Cuda, const Launch& launch, const CvmmHiddenBackward<T>& args) {
  if (args.route.pairs == 0) return;
  if constexpr (sizeof(T) == 2) {
    if (in_fours<T>(args.width, args.width, args.h) && in_fours<T>(args.width, args.width, args.da)) {
      const unsigned blocks = grid_for(args.route.pairs * 32, kRowThreads);
      hidden_backward_fours_kernel<T><<<blocks, kRowThreads, 0, stream_of(launch)>>>(args);
      return check_launch("cvmm_hidden_backward");
    }
  }
  hidden_backward_kernel<T><<<grid_for(args.route.pairs * 32, kRowThreads), kRowThreads, 0, stream_of(launch)>>>(args);
  check_launch("cvmm_hidden_backward");
}

template <class T>
void cuda::gather_rows(const Launch& launch, const Route& route, const PairRows<T>& x, int64_t width, T* y) {
  gather_rows_kernel<T>
      <<<grid_for(route.pairs * 32, kRowThreads), kRowThreads, 0, stream_of(launch)>>>(route, x, width, y);
  check_launch("cvmm: gather");
}
template void cuda::gather_rows(const Launch&, const Route&, const PairRows<BFloat16>&, int64_t, BFloat16*);
template void cuda::gather_rows(const Launch&, const Route&, const PairRows<Float16>&, int64_t, Float16*);

#define MOEUT_INSTANTIATE(T)                                                            \
  template void cvmm_combine<T>(Cuda, const Launch&, const CvmmCombine<T>&);            \
  template void cvmm_gate_gradient<T>(Cuda, const Launch&, const CvmmGateGradient<T>&); \
  template void cvmm_hidden_backward<T>(Cuda, const Launch&, const CvmmHiddenBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE
template void cvmm_combine<TFloat32, float>(Cuda, const Launch&, const CvmmCombine<TFloat32, float>&);
template void cvmm_combine<BFloat16, float>(Cuda, const Launch&, const CvmmCombine<BFloat16, float>&);
template void cvmm_combine<Float16, float>(Cuda, const Launch&, const CvmmCombine<Float16, float>&);

}  // namespace moeut::kernels
