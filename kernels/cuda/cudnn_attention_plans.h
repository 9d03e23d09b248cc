// Softmax attention as graphs that cuDNN knows how to fuse, compiled once a shape.
#pragma once

#include "core/dtype.h"
#include "kernels/attention.h"
#include "kernels/cuda/cudnn_plan.h"

namespace moeut::kernels::cuda {

/// The numbers under which a run binds its operands: those of AttentionForward and AttentionBackward, and `delta`,
/// (B, H, T) of f32 that only the plan uses.
enum AttentionOperand : int64_t { kQ, kK, kV, kOut, kLse, kDout, kDelta, kDq, kDk, kDv };

struct AttentionProblem {
  AttentionShape shape;  ///< q_len = k_len, q and k laid out alike
  DType type = DType::bf16;
  bool causal = false;
  bool backward = false;
  bool operator==(const AttentionProblem&) const = default;
};

/// The plan for the current device, compiled when it is first asked for (up to a second) and kept by this host thread;
/// null where cuDNN has none.
const CudnnPlan* attention_plan(const AttentionProblem& problem);

}  // namespace moeut::kernels::cuda
