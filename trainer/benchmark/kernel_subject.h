// The kernels that can be measured, each with its cost and its operands.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "core/device.h"
#include "trainer/benchmark/kernel_cost.h"

namespace moeut {

/// One call enqueues a kernel's work on the operands that it owns, as often as wanted.
using KernelRun = std::function<void()>;

struct KernelSubject {
  std::string_view name;
  KernelCost (*cost)(const KernelShape& shape);
  /// Operands in the device's memory, others for another `stream` of random numbers, and the run on them.
  KernelRun (*prepare)(const KernelShape& shape, Device device, uint64_t stream);
};

/// expert-layer, router, cvmm-*, combine.
std::vector<KernelSubject> expert_subjects();
/// attention, attention-backward, cross-entropy, head, layer-norm, residual-norm, adamw.
std::vector<KernelSubject> layer_subjects();
/// gemm, copy: the ceilings.
KernelSubject gemm_subject();
KernelSubject copy_subject();

/// All of the above, ceilings last.
std::vector<KernelSubject> kernel_subjects();

}  // namespace moeut
