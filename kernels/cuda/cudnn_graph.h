// Writes down graphs of operations on tensors (B, H, rows, columns), for CudnnPlan.
#pragma once

#include <array>
#include <initializer_list>

#include "core/dtype.h"
#include "kernels/cuda/cudnn_plan.h"

namespace moeut::kernels::cuda {

using CudnnExtents = std::array<int64_t, 4>;

/// A tensor of one graph, which owns the descriptor. Strides are in elements.
struct CudnnTensor {
  void* descriptor = nullptr;
  CudnnExtents extents = {}, strides = {};
};

enum class CudnnPointwise : uint8_t { add, subtract, multiply, divide, exp, log };
enum class CudnnReduction : uint8_t { largest, sum };

/// Operations run in the order in which they are added and compute in f32. Each function throws BackendError with
/// cuDNN's words if it fails.
class CudnnGraph {
 public:
  /// A tensor in global memory, which a run binds to this number: aligned to 16 bytes, in f32 to 4.
  CudnnTensor operand(int64_t number, const CudnnExtents& extents, const CudnnExtents& strides, DType type);
  /// A value for every element.
  CudnnTensor constant(float value);
  /// A row-major tensor that never leaves the chip.
  CudnnTensor inner(const CudnnExtents& extents, DType type = DType::f32);

  /// c = a · b for each (B, H).
  void matmul(const CudnnTensor& a, const CudnnTensor& b, const CudnnTensor& c);
  /// y = op(inputs), element by element; inputs' extents of 1 are repeated. Without y: an inner tensor like the first.
  void pointwise(CudnnPointwise op, std::initializer_list<CudnnTensor> inputs, const CudnnTensor& y);
  CudnnTensor pointwise(CudnnPointwise op, std::initializer_list<CudnnTensor> inputs);
  /// Over the columns: (B, H, rows, 1).
  CudnnTensor reduce(CudnnReduction op, const CudnnTensor& x);
  /// x with rows and columns exchanged, in `type`.
  CudnnTensor transpose(const CudnnTensor& x, DType type);
  /// x where column <= row, elsewhere minus infinity.
  CudnnTensor causal(const CudnnTensor& x);

  /// What was written down. Spends the graph.
  CudnnParts take() { return std::move(parts_); }

 private:
  enum class Place : uint8_t { global, chip, host };
  CudnnTensor tensor(int64_t number, const CudnnExtents& extents, const CudnnExtents& strides, DType type, Place place);
  CudnnTensor coordinate(int64_t axis, const CudnnTensor& of);
  void* make(int kind);
  void append(void* operation);
  void append_pointwise(void* function, std::initializer_list<CudnnTensor> inputs, const CudnnTensor& y);

  CudnnParts parts_;
  int64_t next_number_ = int64_t{1} << 32;  // of tensors that no caller binds
};

}  // namespace moeut::kernels::cuda
