// Operands for the kernels that are measured.
#pragma once

#include "autograd/ops/route.h"
#include "trainer/benchmark/kernel_cost.h"

namespace moeut {

/// Normal numbers times `scale`; 2^17 of them over and over, since a device's speed depends on whether its operands
/// look random (how many bits change) and not on how long they do so.
Tensor random_operand(const Shape& shape, DType type, Device device, uint64_t stream, double scale = 1);

/// Ids uniform in [0, bound).
Tensor random_ids(int64_t count, int64_t bound, Device device, uint64_t stream);

/// What a new router decides: every expert is as likely as any other. (N tokens, K pairs each; gates of the wide type.)
ops::Routing random_routing(const KernelShape& shape, Device device, uint64_t stream);

}  // namespace moeut
