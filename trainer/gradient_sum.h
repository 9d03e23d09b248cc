// The gradients of one parameter, of several micro-batches, added exactly.
#pragma once

#include <memory>
#include <vector>

#include "core/tensor.h"

namespace moeut {

/// One contribution to a sum over some chunks: values of the gradient's type, or doubles of a sum and what they have
/// not got room for.
struct GradientPart {
  const void* values = nullptr;
  DType type = DType::f32;
  std::vector<const double*> rests = {};  ///< by chunk, null: all 0; empty: no chunk has any
};

/// high + rest as kernels/exact_sum.h has them. On the CPU, or on meta, where only its memory is counted.
class GradientSum {
 public:
  /// Elements that share a rest: a chunk in which every addition was exact has none.
  static constexpr int64_t kChunk = 2048;

  /// 8 bytes for each element of `like`.
  explicit GradientSum(const Tensor& like);
  /// Begins anew: sum = gradient.
  void set(const Tensor& gradient);
  /// sum += gradient
  void add(const Tensor& gradient);
  /// gradient = sum, rounded once.
  void round_into(Tensor& gradient) const;
  /// Elements [begin, begin + size), chunk by chunk. `begin` is a multiple of kChunk.
  GradientPart part(int64_t begin, int64_t size) const;

 private:
  Tensor high_;
  std::vector<std::unique_ptr<double[]>> rests_;
};

/// y[0 … size) = the sum of all parts, rounded once to T.
template <class T>
void sum_parts(const std::vector<GradientPart>& parts, int64_t size, T* y);

}  // namespace moeut
