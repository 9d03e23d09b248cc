// CVMM, the conditional vector-matrix product: every (row, expert) pair multiplies its row by its expert's matrix.
// [Csordás et al. 2023, σ-MoE; 2024, MoEUT]
// Pairs come sorted by expert (kernels/routing.h). A row operand is read in one of two ways:
//   sorted:    divisor 0, the row of sorted place r is row r of the operand: (pairs, width);
//   gathered:  divisor d > 0, the row of place r is row order[r] / d: a token's row serves its d pairs.
// A gate (pairs), if given, multiplies the row of pair order[r], or its product.
#pragma once

#include <cstdint>
#include <span>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"
#include "kernels/routing.h"

namespace moeut::kernels {

/// A row operand, see above.
template <class T>
struct PairRows {
  const T* data = nullptr;
  int64_t ld = 0;
  int64_t divisor = 0;
  const Wide<T>* gate = nullptr;
};

/// Forward and d-input:  y[r, :] = x(r) · W[e(r)], or · W[e(r)]ᵀ.
/// weight: (experts, in, out), or with transpose (experts, out, in)   y: (pairs, out) in sorted order, overwritten.
/// relu: y = max(y, 0).
template <class T>
struct Cvmm {
  Route route;
  int64_t in = 0, out = 0;
  PairRows<T> x;
  const T* weight = nullptr;
  bool transpose = false;
  bool relu = false;
  T* y = nullptr;
  int64_t ldy = 0;
};
template <class T>
size_t cvmm_workspace_bytes(Cpu, const Route& route, int64_t in, int64_t out);
template <class T>
size_t cvmm_workspace_bytes(Cuda, const Route& route, int64_t in, int64_t out);
template <class T>
void cvmm(Cpu, const Launch&, const Cvmm<T>& args);
template <class T>
void cvmm(Cuda, const Launch&, const Cvmm<T>& args);

/// One repeat's share of a weight gradient: Σ over the places r of e of a(r)ᵀ · b(r).
template <class T>
struct CvmmWeightPart {
  Route route;
  PairRows<T> a;  ///< rows of width in
  PairRows<T> b;  ///< rows of width out
};
/// d-weight:  dW[e] (in, out) = Σ over `parts` in their order of Σ_{r in e} a(r)ᵀ b(r); overwritten (zero for an expert
/// without pairs) or accumulated. The repeats of a shared layer may come as several parts, so that dW is touched once.
template <class T>
struct CvmmWeightGradient {
  int64_t experts = 0, in = 0, out = 0;
  std::span<const CvmmWeightPart<T>> parts;
  Wide<T>* dweight = nullptr;
  Mode mode = Mode::overwrite;
};
template <class T>
size_t cvmm_weight_gradient_workspace_bytes(Cpu, const CvmmWeightGradient<T>& args);
template <class T>
size_t cvmm_weight_gradient_workspace_bytes(Cuda, const CvmmWeightGradient<T>& args);
template <class T>
void cvmm_weight_gradient(Cpu, const Launch&, const CvmmWeightGradient<T>& args);
template <class T>
void cvmm_weight_gradient(Cuda, const Launch&, const CvmmWeightGradient<T>& args);

/// Gather-sum:  out[i, :] = Σ_{j < group} gate[i·group + j] · y[place[i·group + j], :], j in order; gate null: 1.
/// y: (pairs, width) sorted   out: (pairs / group, width), overwritten or accumulated.
template <class T, class Out = T>
struct CvmmCombine {
  Route route;
  int64_t group = 1, width = 0;
  const T* y = nullptr;
  int64_t ldy = 0;
  const Wide<T>* gate = nullptr;
  Out* out = nullptr;
  int64_t ldout = 0;
  Mode mode = Mode::overwrite;
};
template <class T, class Out = T>
void cvmm_combine(Cpu, const Launch&, const CvmmCombine<T, Out>& args);
template <class T, class Out = T>
void cvmm_combine(Cuda, const Launch&, const CvmmCombine<T, Out>& args);

/// d-gate:  dgate[s] = ⟨y[place[s], :], x(place[s])⟩, x read as a row operand (its gate must be null).   dgate:
/// (pairs), overwritten.
template <class T>
struct CvmmGateGradient {
  Route route;
  int64_t width = 0;
  const T* y = nullptr;
  int64_t ldy = 0;
  PairRows<T> x;
  Wide<T>* dgate = nullptr;
};
template <class T>
void cvmm_gate_gradient(Cpu, const Launch&, const CvmmGateGradient<T>& args);
template <class T>
void cvmm_gate_gradient(Cuda, const Launch&, const CvmmGateGradient<T>& args);

/// The hidden layer's backward, d-gate included: with h = relu(u) and da = the gradient of gate·h without the gate, per
/// place r, pair s: dgate[s] = ⟨da[r], h[r]⟩; in place da[r, j] becomes du[r, j] = gate[s] · da[r, j] · (h[r, j] > 0),
/// and h[r, j] becomes gate[s] · h[r, j], which d-weight of the output needs.
template <class T>
struct CvmmHiddenBackward {
  Route route;
  int64_t width = 0;
  T* h = nullptr;  ///< (pairs, width), sorted, dense
  const Wide<T>* gate = nullptr;
  T* da = nullptr;  ///< (pairs, width), sorted, dense
  Wide<T>* dgate = nullptr;
};
template <class T>
void cvmm_hidden_backward(Cpu, const Launch&, const CvmmHiddenBackward<T>& args);
template <class T>
void cvmm_hidden_backward(Cuda, const Launch&, const CvmmHiddenBackward<T>& args);

}  // namespace moeut::kernels
