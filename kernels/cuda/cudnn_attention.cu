// Attention by cuDNN, through copies of heads whose rows are not multiples of 16 bytes; its gradients in parts of the
// batch.
#include "kernels/cuda/attention_fused.h"
#include "kernels/cuda/cudnn_attention_plans.h"
#include "kernels/cuda/cudnn_attention_shapes.cuh"
#include "kernels/cuda/head_copies.cuh"
#include "kernels/cuda/library_results.cuh"

namespace moeut::kernels::cuda {

namespace {

template <class T>
const CudnnPlan* plan_for(const AttentionShape& part, const AttentionMask& mask, bool backward) {
  return attention_plan({seen_by_cudnn(part), dtype_of<T>, mask.causal, backward});
}

// A workspace is the plan's own, statistics of the backward pass, copies of heads, each of a multiple of 256 bytes. It
// is never 0, which stands for what cuDNN does not compute.
size_t rounded(size_t bytes) {
  return (bytes / 256 + 1) * 256;
}

size_t statistics_bytes(const AttentionShape& s) {
  return rounded(static_cast<size_t>(s.batch * s.heads * s.q_len) * sizeof(float));
}

template <class T>
size_t copies_bytes(const AttentionShape& s, size_t tensors) {
  return is_aligned(s) ? 0 : tensors * HeadsLaidOut<T>::bytes(seen_by_cudnn(s));
}

AttentionShape first_part(AttentionShape s) {
  s.batch = part_of_batch(s);
  return s;
}

/// Whether all operands begin at multiples of 16 bytes and the workspace is what was asked for.
bool is_ready(const Launch& launch, size_t bytes, std::initializer_list<const void*> operands) {
  if (launch.workspace_bytes < bytes)
    throw BackendError("attention: a workspace of " + std::to_string(launch.workspace_bytes) + " bytes; it needs " +
                       std::to_string(bytes));
  return std::all_of(operands.begin(), operands.end(),
                     [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; });
}

/// `results` are what cuDNN is about to write, in the layout that it sees.
template <class T>
void announce(const Launch& launch, const AttentionShape& seen, std::initializer_list<T*> results) {
  if (!memory_is_exact()) return;
  for (T* result : results) {
    for (int64_t b = 0; b < seen.batch; ++b) {
      announce_results(launch, result + b * seen.q_batch_stride, static_cast<size_t>(seen.q_row_stride) * sizeof(T),
                       static_cast<size_t>(seen.heads * seen.head_dim) * sizeof(T), static_cast<size_t>(seen.q_len));
    }
  }
}

template <class T>
bool backward_part(const Launch& launch, const AttentionBackward<T>& a) {
  const CudnnPlan* plan = plan_for<T>(a.shape, a.mask, true);
  if (plan == nullptr) return false;
  std::byte* delta = static_cast<std::byte*>(launch.workspace) + rounded(plan->workspace_bytes());
  HeadsLaidOut<T> heads(a.shape, seen_by_cudnn(a.shape), delta + statistics_bytes(a.shape));
  const T *q = heads.in(a.q), *k = heads.in(a.k), *v = heads.in(a.v), *out = heads.in(a.out), *dout = heads.in(a.dout);
  T *dq = heads.out(a.dq), *dk = heads.out(a.dk), *dv = heads.out(a.dv);
  heads.copy_in(launch);
  announce(launch, seen_by_cudnn(a.shape), {dq, dk, dv});
  const CudnnPlan::Binding bindings[] = {{kQ, q},       {kK, k},         {kV, v},   {kOut, out}, {kLse, a.lse},
                                         {kDout, dout}, {kDelta, delta}, {kDq, dq}, {kDk, dk},   {kDv, dv}};
  plan->run(launch, launch.workspace, bindings);
  heads.copy_out(launch);
  return true;
}

}  // namespace

template <class T>
size_t fused_forward_bytes(const AttentionShape& s, const AttentionMask& mask) {
  if (!applies(s, mask)) return 0;
  const CudnnPlan* plan = plan_for<T>(s, mask, false);
  return plan == nullptr ? 0 : rounded(plan->workspace_bytes()) + copies_bytes<T>(s, 4);
}

template <class T>
bool fused_forward(const Launch& launch, const AttentionForward<T>& a) {
  const size_t bytes = fused_forward_bytes<T>(a.shape, a.mask);
  if (bytes == 0 || !is_ready(launch, bytes, {a.q, a.k, a.v, a.out})) return false;
  const CudnnPlan* plan = plan_for<T>(a.shape, a.mask, false);
  auto* room = static_cast<std::byte*>(launch.workspace) + rounded(plan->workspace_bytes());
  HeadsLaidOut<T> heads(a.shape, seen_by_cudnn(a.shape), room);
  const T *q = heads.in(a.q), *k = heads.in(a.k), *v = heads.in(a.v);
  T* out = heads.out(a.out);
  heads.copy_in(launch);
  announce(launch, seen_by_cudnn(a.shape), {out});
  const CudnnPlan::Binding bindings[] = {{kQ, q}, {kK, k}, {kV, v}, {kOut, out}, {kLse, a.lse}};
  plan->run(launch, launch.workspace, bindings);
  heads.copy_out(launch);
  return true;
}

template <class T>
size_t fused_backward_bytes(const AttentionShape& s, const AttentionMask& mask) {
  if (!applies_backward(s, mask)) return 0;
  const AttentionShape part = first_part(s);
  const CudnnPlan* plan = plan_for<T>(part, mask, true);
  if (plan == nullptr) return 0;
  return rounded(plan->workspace_bytes()) + statistics_bytes(part) + copies_bytes<T>(part, 8);
}

template <class T>
bool fused_backward(const Launch& launch, const AttentionBackward<T>& a) {
  if (a.dq_mode != Mode::overwrite || a.dk_mode != Mode::overwrite || a.dv_mode != Mode::overwrite) return false;
  const size_t bytes = fused_backward_bytes<T>(a.shape, a.mask);
  if (bytes == 0 || !is_ready(launch, bytes, {a.q, a.k, a.v, a.out, a.dout, a.dq, a.dk, a.dv})) return false;
  return for_each_part(a.shape, [&](const AttentionShape& part, int64_t first) {
    const int64_t rows = first * a.shape.q_batch_stride, statistics = first * a.shape.heads * a.shape.q_len;
    return backward_part<T>(launch, {part, a.mask, a.q + rows, a.k + rows, a.v + rows, a.out + rows, a.lse + statistics,
                                     a.dout + rows, a.dq + rows, a.dk + rows, a.dv + rows});
  });
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
