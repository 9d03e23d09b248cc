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

/// On tensor cores, for T of 16 bits whose rows can be copied `copy_bytes` (16, 8 or 4) at a time.
template <class T>
void cvmm_mma(const Launch& launch, const Cvmm<T>& args, int copy_bytes);
template <class T>
void weight_gradient_mma(const Launch& launch, const CvmmWeightGradient<T>& args, int copy_bytes);

}  // namespace moeut::kernels::cuda
