// The ways in which CVMM is computed on a GPU; kernels/cuda/cvmm.cu chooses.
#pragma once

#include "kernels/cvmm.h"

namespace moeut::kernels::cuda {

/// On the ordinary cores, for every type and shape.
template <class T>
void cvmm_plain(const Launch& launch, const Cvmm<T>& args);
template <class T>
void weight_gradient_plain(const Launch& launch, const CvmmWeightGradient<T>& args);
constexpr int kPlainTile = 64;

/// On tensor cores, for T of 16 bits whose rows can be copied `copy_bytes` (16, 8 or 4) at a time; the gradient takes
/// no gates.
template <class T>
void cvmm_mma(const Launch& launch, const Cvmm<T>& args, int copy_bytes);
template <class T>
void weight_gradient_mma(const Launch& launch, const CvmmWeightGradient<T>& args, int copy_bytes);

/// The same on the tensor cores of Hopper, where that machine code runs.
bool wgmma_available();
template <class T>
void cvmm_wgmma(const Launch& launch, const Cvmm<T>& args, int copy_bytes);
template <class T>
void weight_gradient_wgmma(const Launch& launch, const CvmmWeightGradient<T>& args, int copy_bytes);

/// y[r, :] = gate · x(r): the rows of an operand in sorted order, (pairs, width) dense, rounded once.
template <class T>
void gather_rows(const Launch& launch, const Route& route, const PairRows<T>& x, int64_t width, T* y);

}  // namespace moeut::kernels::cuda
