#include "kernels/optimizer.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;
constexpr int64_t kBlock = 16384;  // elements of a block, as on the CPU
constexpr int kTensors = 48;       // of one launch: their table travels as a kernel argument

/// Tensors of one launch, and the first block of each.
template <class Tensor>
struct Table {
  Tensor tensors[kTensors];
  int64_t first_block[kTensors + 1];
  int count = 0;

  /// The tensor that block b belongs to.
  __device__ int tensor_of(int64_t b) const {
    int i = 0;
    while (b >= first_block[i + 1]) ++i;
    return i;
  }
};

/// f(table, blocks before it) for consecutive parts of the list.
template <class Tensor, class F>
void for_each_table(std::span<const Tensor> tensors, F&& f) {
  int64_t done_blocks = 0;
  for (size_t begin = 0; begin < tensors.size(); begin += kTensors) {
    Table<Tensor> table;
    table.count = static_cast<int>(std::min<size_t>(kTensors, tensors.size() - begin));
    table.first_block[0] = 0;
    for (int i = 0; i < table.count; ++i) {
      table.tensors[i] = tensors[begin + static_cast<size_t>(i)];
      table.first_block[i + 1] = table.first_block[i] + ceil_div(table.tensors[i].size, kBlock);
    }
    const int64_t blocks = table.first_block[table.count];
    if (blocks > 0) f(table, blocks, done_blocks);
    done_blocks += blocks;
  }
}

/// The scalar factors of one step, rounded once.
template <class T>
struct Factors {
  T keep, scale, beta1, beta2, rest1, rest2, step_size, root_correction, eps;

  explicit Factors(const AdamWStep& s)
      : keep(static_cast<T>(1 - s.lr * s.weight_decay)),
        scale(static_cast<T>(s.gradient_scale)),
        beta1(static_cast<T>(s.beta1)),
        beta2(static_cast<T>(s.beta2)),
        rest1(static_cast<T>(1 - s.beta1)),
        rest2(static_cast<T>(1 - s.beta2)),
        step_size(static_cast<T>(s.lr / (1 - std::pow(s.beta1, static_cast<double>(s.step))))),
        root_correction(static_cast<T>(std::sqrt(1 - std::pow(s.beta2, static_cast<double>(s.step))))),
        eps(static_cast<T>(s.eps)) {}
};

template <class T>
__global__ void __launch_bounds__(kThreads) adamw_kernel(Table<AdamWTensor<T>> table, Factors<T> f) {
  const int i = table.tensor_of(blockIdx.x);
  const AdamWTensor<T>& t = table.tensors[i];
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - table.first_block[i]) * kBlock;
  const int64_t end = begin + kBlock < t.size ? begin + kBlock : t.size;
  const T keep = t.decay ? f.keep : T(1);
  for (int64_t j = begin + threadIdx.x; j < end; j += kThreads) {
    const T g = f.scale * t.gradient[j];
    const T m = f.beta1 * t.exp_avg[j] + f.rest1 * g;
    const T v = f.beta2 * t.exp_avg_sq[j] + f.rest2 * g * g;
    t.exp_avg[j] = m;
    t.exp_avg_sq[j] = v;
    t.value[j] = keep * t.value[j] - f.step_size * m / (sqrt(v) / f.root_correction + f.eps);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) norm_kernel(Table<NormTensor<T>> table, double* partial) {
  const int i = table.tensor_of(blockIdx.x);
  const NormTensor<T>& t = table.tensors[i];
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - table.first_block[i]) * kBlock;
  const int64_t end = begin + kBlock < t.size ? begin + kBlock : t.size;
  double sum = 0;
  for (int64_t j = begin + threadIdx.x; j < end; j += kThreads) {
    const auto x = static_cast<double>(t.data[j]);
    sum += x * x;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(1024) norm_total_kernel(int64_t blocks, const double* partial, double* result) {
  double sum = 0;
  for (int64_t b = threadIdx.x; b < blocks; b += blockDim.x) sum += partial[b];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *result = sum;
}

template <class Tensor>
int64_t count_blocks(std::span<const Tensor> tensors) {
  int64_t blocks = 0;
  for (const Tensor& t : tensors) blocks += ceil_div(t.size, kBlock);
  return blocks;
}

}  // namespace

template <class T>
void adamw(Cuda, const Launch& launch, std::span<const AdamWTensor<T>> tensors, const AdamWStep* step) {
  const Factors<T> factors(*step);
  for_each_table(tensors, [&](const auto& table, int64_t blocks, int64_t) {
    adamw_kernel<T><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(launch)>>>(table, factors);
    check_launch("adamw");
  });
}

template <class T>
size_t squared_norm_workspace_bytes(Cuda, std::span<const NormTensor<T>> tensors) {
  return static_cast<size_t>(count_blocks(tensors) + 1) * sizeof(double);
}

template <class T>
void squared_norm(Cuda, const Launch& launch, std::span<const NormTensor<T>> tensors, double* result) {
  auto* total = static_cast<double*>(launch.workspace);
  double* partial = total + 1;
  for_each_table(tensors, [&](const auto& table, int64_t blocks, int64_t done) {
    norm_kernel<T><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(launch)>>>(table, partial + done);
    check_launch("squared_norm");
  });
  norm_total_kernel<<<1, 1024, 0, stream_of(launch)>>>(count_blocks(tensors), partial, total);
  check_launch("squared_norm: total");
  const cudaError_t status = cudaMemcpyAsync(result, total, sizeof(double), cudaMemcpyDefault, stream_of(launch));
  if (status != cudaSuccess) throw BackendError(std::string("squared_norm: cuda: ") + cudaGetErrorString(status));
  cudaStreamSynchronize(stream_of(launch));
}

#define MOEUT_INSTANTIATE(T)                                                                      \
  template void adamw<T>(Cuda, const Launch&, std::span<const AdamWTensor<T>>, const AdamWStep*); \
  template size_t squared_norm_workspace_bytes<T>(Cuda, std::span<const NormTensor<T>>);          \
  template void squared_norm<T>(Cuda, const Launch&, std::span<const NormTensor<T>>, double*);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
