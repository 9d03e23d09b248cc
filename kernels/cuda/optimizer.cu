#include "kernels/optimizer.h"

#include <algorithm>

#include "kernels/cuda/launch.cuh"

namespace moeut::kernels {

namespace {

using namespace cuda;
constexpr int kThreads = 256;
constexpr int64_t kBlock = kOptimizerBlock;
constexpr int kTensors = 48;  // of one launch: their table travels as a kernel argument

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

/// The rounded copy of one element.
__device__ inline void store_narrow(void* narrow, DType type, int64_t i, float value) {
  if (type == DType::bf16) {
    static_cast<BFloat16*>(narrow)[i] = BFloat16(value);
  } else if (type == DType::f16) {
    static_cast<Float16*>(narrow)[i] = Float16(value);
  } else {
    static_cast<TFloat32*>(narrow)[i] = TFloat32(value);
  }
}

template <class T>
__global__ void add_losses_kernel(const T* loss, const T* reg_loss, StepScalars* scalars) {
  scalars->running_loss += static_cast<double>(*loss);
  scalars->running_reg_loss += static_cast<double>(*reg_loss);
}

__global__ void decide_kernel(AdamWRule rule, StepScalars* scalars, float* loss_scale) {
  decide(*scalars, rule);
  *loss_scale = static_cast<float>(scalars->scaler.scale);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    adamw_kernel(Table<AdamWTensor<T>> table, AdamWRule rule, const StepScalars* scalars) {
  if (scalars->updated == 0) return;
  const AdamWFactors<T> f(rule, *scalars);
  const int i = table.tensor_of(blockIdx.x);
  const AdamWTensor<T>& t = table.tensors[i];
  const int64_t begin = (static_cast<int64_t>(blockIdx.x) - table.first_block[i]) * kBlock;
  const int64_t end = begin + kBlock < t.size ? begin + kBlock : t.size;
  const T keep = t.decay ? f.keep : T(1);
  for (int64_t j = begin + threadIdx.x; j < end; j += kThreads) {
    const T g = f.scale * t.gradient[j];
    const T m = f.beta1 * t.exp_avg[j] + f.rest1 * g;
    const T v = f.beta2 * t.exp_avg_sq[j] + f.rest2 * g * g;
    const T value = keep * t.value[j] - f.step_size * m / (sqrt(v) / f.root_correction + f.eps);
    t.exp_avg[j] = m;
    t.exp_avg_sq[j] = v;
    t.value[j] = value;
    if (t.narrow != nullptr) store_narrow(t.narrow, t.narrow_type, j, static_cast<float>(value));
    if (t.ema != nullptr) t.ema[j] = f.ema_decay * t.ema[j] + f.ema_rest * value;
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
void add_losses(Cuda, const Launch& launch, const T* loss, const T* reg_loss, StepScalars* scalars) {
  add_losses_kernel<<<1, 1, 0, stream_of(launch)>>>(loss, reg_loss, scalars);
  check_launch("add_losses");
}

void decide_update(Cuda, const Launch& launch, const AdamWRule& rule, StepScalars* scalars, float* loss_scale) {
  decide_kernel<<<1, 1, 0, stream_of(launch)>>>(rule, scalars, loss_scale);
  check_launch("decide_update");
}

template <class T>
void adamw(Cuda, const Launch& launch, std::span<const AdamWTensor<T>> tensors, const AdamWRule& rule,
           const StepScalars* scalars) {
  for_each_table(tensors, [&](const auto& table, int64_t blocks, int64_t) {
    adamw_kernel<T><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(launch)>>>(table, rule, scalars);
    check_launch("adamw");
  });
}

template <class T>
size_t squared_norm_workspace_bytes(Cuda, std::span<const NormTensor<T>> tensors) {
  return static_cast<size_t>(count_blocks(tensors)) * sizeof(double);
}

template <class T>
void squared_norm(Cuda, const Launch& launch, std::span<const NormTensor<T>> tensors, double* result) {
  auto* partial = static_cast<double*>(launch.workspace);
  for_each_table(tensors, [&](const auto& table, int64_t blocks, int64_t done) {
    norm_kernel<T><<<static_cast<unsigned>(blocks), kThreads, 0, stream_of(launch)>>>(table, partial + done);
    check_launch("squared_norm");
  });
  norm_total_kernel<<<1, 1024, 0, stream_of(launch)>>>(count_blocks(tensors), partial, result);
  check_launch("squared_norm: total");
}

#define MOEUT_INSTANTIATE(T)                                                                                          \
  template void add_losses<T>(Cuda, const Launch&, const T*, const T*, StepScalars*);                                 \
  template void adamw<T>(Cuda, const Launch&, std::span<const AdamWTensor<T>>, const AdamWRule&, const StepScalars*); \
  template size_t squared_norm_workspace_bytes<T>(Cuda, std::span<const NormTensor<T>>);                              \
  template void squared_norm<T>(Cuda, const Launch&, std::span<const NormTensor<T>>, double*);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
