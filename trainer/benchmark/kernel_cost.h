// What a kernel must do at the least: floating-point operations and bytes between memory and processor, by formula.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "layers/model_config.h"

namespace moeut {

/// The sizes that fix what the kernels of a model's layers have to do, in the alphabet of moeut.md.
/// In the formulas below N = B·T tokens, R = N·K pairs, M parameters; w and W are the bytes of an element of the
/// compute type and of its wide type (fp32 beside bf16); an index has 4 bytes.
struct KernelShape {
  ModelConfig model;
  int64_t batch = 1;               ///< B
  int64_t time = 1024;             ///< T
  DType compute = DType::f32;      ///< of what goes into matrix products
  int64_t gemm_size = 2048;        ///< rows and columns of the machine's own product
  int64_t copy_bytes = 256 << 20;  ///< that the machine's own copy reads
  int64_t tokens() const { return batch * time; }
  int64_t pairs() const { return tokens() * model.ff_k; }
  DType wide() const { return wide_of(compute); }
};

/// FLOPs are those of matrix products alone (a multiply-add is two): what is left of a kernel without them is memory.
/// Bytes are the minimal traffic: every operand read once from memory, however often its rows are gathered, and every
/// result written once.   [the counting of ../shared/tools/roofline.py, gathers served by the cache]
struct KernelCost {
  double flops = 0, bytes = 0;
};

/// y = relu(x · keys[e]):  2·R·D·S;  w·(N·D + E·D·S + R·S) + 4·R.
KernelCost cvmm_up_cost(const KernelShape& shape);
/// y = h · values[e]:  2·R·S·D;  w·(R·S + E·S·D + R·D).
KernelCost cvmm_down_cost(const KernelShape& shape);
/// dh = dy · values[e]ᵀ, masked and gated, dgate, and gate·h:  2·R·D·S;  w·(N·D + E·S·D + 3·R·S) + W·2·R + 4·R.
KernelCost cvmm_dhidden_cost(const KernelShape& shape);
/// dx pairs = dh · keys[e]ᵀ:  2·R·S·D;  w·(R·S + E·D·S + R·D).
KernelCost cvmm_dx_cost(const KernelShape& shape);
/// dkeys[e] = Σ xᵀ·dh:  2·R·D·S;  w·(N·D + R·S) + W·E·D·S + 4·R.
KernelCost cvmm_dweight_up_cost(const KernelShape& shape);
/// dvalues[e] = Σ (gate·h)ᵀ·dy:  2·R·S·D;  w·(R·S + N·D) + W·E·S·D + 4·R.
KernelCost cvmm_dweight_down_cost(const KernelShape& shape);
/// out = Σ_k gate · y:  no product;  w·R·D + W·(R + N·D) + 4·R.
KernelCost combine_cost(const KernelShape& shape);
/// The feed-forward experts, forward and backward: the sum of the seven above, and of the backward's combine without
/// gates, w·(R·D + N·D) + 4·R, and of the sort, 4·(3·R + E + 1).
KernelCost expert_layer_cost(const KernelShape& shape);
/// Logits, top-k, gates and sorted pairs:  2·N·D·E;  w·(N·D + E·D) + W·(N·E + R) + 4·(3·R + E + 1).
KernelCost router_cost(const KernelShape& shape);
/// Causal, forward: two products of which half is masked, 2·N·H·P·(T + 1);  w·4·N·H·P + W·N·H.
KernelCost attention_cost(const KernelShape& shape);
/// Causal, backward: five such products, 5·N·H·P·(T + 1);  w·8·N·H·P + W·N·H.
KernelCost attention_backward_cost(const KernelShape& shape);
/// Loss and gradient of N rows of V logits:  no product;  w·2·N·V + W·2·N + 4·N.
KernelCost cross_entropy_cost(const KernelShape& shape);
/// Forward and backward of N rows, the parameters aside:  no product;  W·(3·N·D + 4·N) + w·2·N·D.
KernelCost layer_norm_cost(const KernelShape& shape);
/// The same of a sum, x + branch, that is kept with its copy in the compute type:  no product;
/// W·(6·N·D + 4·N) + w·4·N·D.
KernelCost residual_norm_cost(const KernelShape& shape);
/// The language model's head and its loss, forward and backward: three products, 6·N·D·V; logits need not reach memory:
/// w·(2·N·D + V·D) + W·V·D + 4·N.
KernelCost head_cost(const KernelShape& shape);
/// Norm, clip and update of all parameters; the gradient is read twice, since the clip needs the norm of all of it:
/// no product;  W·8·M, and w·(M - norms and biases) for the copy that matrix products read in mixed precision.
KernelCost adamw_cost(const KernelShape& shape);
/// A square product of the compute type:  2·n³;  w·3·n².
KernelCost gemm_cost(const KernelShape& shape);
/// Every byte is read and written.
KernelCost copy_cost(const KernelShape& shape);

}  // namespace moeut
