// Attention by cuDNN's fused kernels, where they apply; kernels/cuda/attention.cu asks before it computes. CMake takes
// cudnn_attention.cu, or no_cudnn_attention.cu in a build without cuDNN.
#pragma once

#include "kernels/attention.h"

namespace moeut::kernels::cuda {

/// Bytes of workspace for attention under this mask; 0 where cuDNN does not compute it.
template <class T>
size_t fused_forward_bytes(const AttentionShape& shape, const AttentionMask& mask);
/// False where cuDNN does not compute it: then nothing of use has been written. T is a 16-bit type.
template <class T>
bool fused_forward(const Launch& launch, const AttentionForward<T>& args);

/// The same for the gradients. They are the same bits each time.
template <class T>
size_t fused_backward_bytes(const AttentionShape& shape, const AttentionMask& mask);
template <class T>
bool fused_backward(const Launch& launch, const AttentionBackward<T>& args);

}  // namespace moeut::kernels::cuda
