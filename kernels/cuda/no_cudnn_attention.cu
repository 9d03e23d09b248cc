// Attention in a build without cuDNN: never fused.
#include "kernels/cuda/attention_fused.h"

namespace moeut::kernels::cuda {

template <class T>
size_t fused_forward_bytes(const AttentionShape&, const AttentionMask&) {
  return 0;
}

template <class T>
bool fused_forward(const Launch&, const AttentionForward<T>&) {
  return false;
}

template <class T>
size_t fused_backward_bytes(const AttentionShape&, const AttentionMask&) {
  return 0;
}

template <class T>
bool fused_backward(const Launch&, const AttentionBackward<T>&) {
  return false;
}

#define MOEUT_INSTANTIATE(T)                                                            \
  template size_t fused_forward_bytes<T>(const AttentionShape&, const AttentionMask&);  \
  template bool fused_forward<T>(const Launch&, const AttentionForward<T>&);            \
  template size_t fused_backward_bytes<T>(const AttentionShape&, const AttentionMask&); \
  template bool fused_backward<T>(const Launch&, const AttentionBackward<T>&);
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels::cuda
