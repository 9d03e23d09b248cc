// AdamW over all parameters in one launch, and the global gradient norm.   [Loshchilov & Hutter 2019; rule and order as
// PyTorch's AdamW]
#pragma once

#include <cstdint>
#include <span>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// One parameter, `size` dense elements each.
template <class T>
struct AdamWTensor {
  T* value = nullptr;
  const T* gradient = nullptr;
  T* exp_avg = nullptr;
  T* exp_avg_sq = nullptr;
  int64_t size = 0;
  bool decay = true;
};

/// What changes from step to step; in host memory, read when the kernel is launched.
struct AdamWStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  int64_t step = 1;           ///< 1 for the first update
  double gradient_scale = 1;  ///< multiplies every gradient: clipping and averaging
};

/// g = gradient_scale · gradient;  value *= 1 - lr · weight_decay (where decay);  m = β1 m + (1-β1) g;  v = β2 v +
/// (1-β2) g²; value -= lr / (1-β1^t) · m / (√v / √(1-β2^t) + eps). Moments and value in T; scalar factors in float64,
/// rounded once.
template <class T>
void adamw(Cpu, const Launch&, std::span<const AdamWTensor<T>> tensors, const AdamWStep* step);
template <class T>
void adamw(Cuda, const Launch&, std::span<const AdamWTensor<T>> tensors, const AdamWStep* step);

/// A dense gradient and its number of elements.
template <class T>
struct NormTensor {
  const T* data = nullptr;
  int64_t size = 0;
};

/// Σ over all tensors of Σ x², squares and sums in float64 over fixed blocks of 16384 elements of each tensor, blocks
/// in order.
template <class T>
size_t squared_norm_workspace_bytes(Cpu, std::span<const NormTensor<T>> tensors);
template <class T>
size_t squared_norm_workspace_bytes(Cuda, std::span<const NormTensor<T>> tensors);
template <class T>
void squared_norm(Cpu, const Launch&, std::span<const NormTensor<T>> tensors, double* result);
template <class T>
void squared_norm(Cuda, const Launch&, std::span<const NormTensor<T>> tensors, double* result);

}  // namespace moeut::kernels
