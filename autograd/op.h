// What the files in ops/ share.
#pragma once

#include "autograd/tape.h"
#include "core/check.h"
#include "core/launch.h"
#include "core/tensor.h"
#include "kernels/dispatch.h"

namespace moeut {

/// A launch with a workspace of its own, given back to the arena at the end of the scope. On meta it is counted as the
/// CPU would need it.
class Workspace {
 public:
  Workspace(Device device, size_t bytes) {
    if (bytes == 0) return;
    buffer_ = Tensor::empty({static_cast<int64_t>(bytes)}, DType::u8, device);
    launch_.workspace = buffer_.raw();
    launch_.workspace_bytes = bytes;
  }
  operator const Launch&() const { return launch_; }

 private:
  Tensor buffer_;
  Launch launch_;
};

/// bytes(Cpu{}) or bytes(Cuda{}): a kernel's foo_workspace_bytes for the device.
template <class F>
size_t workspace_bytes(Device device, F&& bytes) {
  if constexpr (kWithCuda) {
    if (device.is_cuda()) return bytes(Cuda{});
  }
  return bytes(Cpu{});
}

/// Sets every element of a dense floating tensor.
void fill(Tensor& tensor, double value);

/// to = from in another number format (mode); one of the two types is wide.
void cast_into(const Tensor& from, const Tensor& to, Mode mode);
/// `x` itself, or a copy in `type`.
Tensor as_type(const Tensor& x, DType type);

/// Throws ShapeError unless `operand` has the wide type of `type` (see Wide).
void require_wide(const char* op, const char* operand, const Tensor& tensor, DType type);

/// Throws ShapeError unless all defined operands share device and element type.
void require_same_kind(const char* op, std::initializer_list<const Tensor*> operands);

}  // namespace moeut
