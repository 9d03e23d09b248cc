// cuDNN recognises attention by its operations and their order: the graphs below are those that it documents.
// [NVIDIA cuDNN 9, graph API, "Attention"; the lowering in NVIDIA's cudnn-frontend 1.23]
#include "kernels/cuda/cudnn_attention_plans.h"

#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/launch.cuh"

namespace moeut::kernels::cuda {

namespace {

using enum CudnnPointwise;

/// The operands of a problem, each as its graph wants it.
class Operands {
 public:
  Operands(CudnnGraph& graph, const AttentionProblem& problem) : graph_(graph), p_(problem) {}

  /// (B, H, T, P)
  CudnnTensor rows(AttentionOperand number) const {
    return graph_.operand(number, {s().batch, s().heads, s().q_len, s().head_dim},
                          {s().q_batch_stride, s().head_dim, s().q_row_stride, 1}, p_.type);
  }
  /// (B, H, P, T)
  CudnnTensor columns(AttentionOperand number) const {
    return graph_.operand(number, {s().batch, s().heads, s().head_dim, s().q_len},
                          {s().q_batch_stride, s().head_dim, 1, s().q_row_stride}, p_.type);
  }
  /// f32 (B, H, T, 1)
  CudnnTensor statistics(AttentionOperand number) const {
    return graph_.operand(number, {s().batch, s().heads, s().q_len, 1}, {s().heads * s().q_len, s().q_len, 1, 1},
                          DType::f32);
  }
  /// (B, H, T, T)
  CudnnTensor scores(DType type = DType::f32) const {
    return graph_.inner({s().batch, s().heads, s().q_len, s().q_len}, type);
  }

 private:
  const AttentionShape& s() const { return p_.shape; }
  CudnnGraph& graph_;
  const AttentionProblem& p_;
};

/// S = QKᵀ, lse = max S + log Σ exp(S - max S), P = exp(S - max S) / Σ, out = PV.
CudnnParts forward_graph(const AttentionProblem& problem) {
  CudnnGraph g;
  const Operands of(g, problem);
  CudnnTensor s = of.scores();
  g.matmul(of.rows(kQ), of.columns(kK), s);
  if (problem.causal) s = g.causal(s);
  const CudnnTensor largest = g.reduce(CudnnReduction::largest, s);
  const CudnnTensor e = g.pointwise(exp, {g.pointwise(subtract, {s, largest})});
  const CudnnTensor sum = g.reduce(CudnnReduction::sum, e);
  g.pointwise(add, {largest, g.pointwise(log, {sum})}, of.statistics(kLse));
  const CudnnTensor p = of.scores(problem.type);
  g.pointwise(divide, {e, sum}, p);
  g.matmul(p, of.rows(kV), of.rows(kOut));
  return g.take();
}

/// delta = Σ dout ∘ out, P = exp(QKᵀ - lse), dV = Pᵀ dout, dS = P ∘ (dout Vᵀ - delta), dK = dSᵀ Q, dQ = dS K.
///
/// dQ is written by the product itself. cuDNN then keeps dS in its workspace and sums over the keys in order; with an
/// f32 sum of dQ in global memory between the two, blocks would add to that in whatever order they end.
CudnnParts backward_graph(const AttentionProblem& problem) {
  CudnnGraph g;
  const Operands of(g, problem);
  const CudnnTensor q = of.rows(kQ), k = of.columns(kK), dout = of.rows(kDout), delta = of.statistics(kDelta);
  // (The product with 1 is part of the pattern: without it the plan takes three times the workspace.)
  const CudnnTensor sum = g.reduce(CudnnReduction::sum, g.pointwise(multiply, {dout, of.rows(kOut)}));
  g.pointwise(multiply, {sum, g.constant(1)}, delta);
  CudnnTensor s = of.scores();
  g.matmul(q, k, s);
  s = g.pointwise(subtract, {s, of.statistics(kLse)});
  if (problem.causal) s = g.causal(s);
  const CudnnTensor p = g.pointwise(exp, {s});
  g.matmul(g.transpose(p, problem.type), dout, of.rows(kDv));
  const CudnnTensor dp = of.scores();
  g.matmul(dout, of.columns(kV), dp);
  const CudnnTensor ds = g.pointwise(multiply, {g.pointwise(subtract, {dp, delta}), p});
  g.matmul(g.transpose(ds, problem.type), q, of.rows(kDk));
  g.matmul(ds, g.transpose(k, problem.type), of.rows(kDq));
  return g.take();
}

struct Compiled {
  int device;
  AttentionProblem problem;
  std::unique_ptr<CudnnPlan> plan;
};

}  // namespace

const CudnnPlan* attention_plan(const AttentionProblem& problem) {
  // Never freed: CUDA may be gone before the objects of a thread are.
  thread_local std::vector<Compiled>& known = *new std::vector<Compiled>;
  int device = 0;
  cudaGetDevice(&device);
  for (const Compiled& c : known) {
    if (c.device == device && c.problem == problem) return c.plan.get();
  }
  std::unique_ptr<CudnnPlan> plan =
      CudnnPlan::compile(problem.backward ? backward_graph(problem) : forward_graph(problem));
  return known.emplace_back(device, problem, std::move(plan)).plan.get();
}

}  // namespace moeut::kernels::cuda
