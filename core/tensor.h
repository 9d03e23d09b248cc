// A tensor: shape, element type, device and a shared buffer. Copying a Tensor shares the buffer; clone() copies the
// elements.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/shape.h"

namespace moeut {

/// Rows (the last dimension) are `row_stride` elements apart, at least as many as they hold; all other dimensions are
/// dense over rows. A pitch wider than the row keeps 16-byte rows where the extent does not (d_model 412 in bf16).
class Tensor {
 public:
  Tensor() = default;

  /// Uninitialised memory. `row_stride` 0 means dense rows. Throws ShapeError if it is smaller than a row.
  static Tensor empty(const Shape& shape, DType dtype, Device device = Device::cpu(), int64_t row_stride = 0);
  static Tensor zeros(const Shape& shape, DType dtype, Device device = Device::cpu());
  /// A copy of host values, row-major. Throws ShapeError unless values.size() == shape.size().
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu()) {
    return from_bytes(values.data(), values.size(), shape, dtype_of<T>, device);
  }
  /// Someone else's memory, which must outlive every copy of the tensor.
  static Tensor view_of(void* data, const Shape& shape, DType dtype, Device device = Device::cpu(),
                        int64_t row_stride = 0);

  bool defined() const { return data_ != nullptr; }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  Device device() const { return device_; }
  int64_t size() const { return shape_.size(); }
  int64_t row_stride() const { return row_stride_; }
  bool dense() const { return row_stride_ == shape_.row_size(); }
  /// Bytes of the logical elements, without the pitch.
  size_t bytes() const { return static_cast<size_t>(size()) * size_of(dtype_); }
  /// True if another tensor shares the buffer.
  bool shared() const { return buffer_.use_count() > 1; }

  void* raw() const { return data_; }
  /// Element pointer. Throws ShapeError if T is not the element type.
  template <class T>
  T* data() const {
    if (dtype_of<std::remove_const_t<T>> != dtype_) wrong_type(dtype_of<std::remove_const_t<T>>);
    return static_cast<T*>(data_);
  }

  /// The same elements under another shape of the same size; shares the buffer. Throws ShapeError if sizes differ or
  /// rows are pitched and the row size changes.
  Tensor reshape(const Shape& shape) const;
  /// Elements [begin, begin + count) of the first dimension; shares the buffer.
  Tensor slice(int64_t begin, int64_t count) const;
  Tensor clone() const;
  /// A copy on `device` with elements of type `dtype` (floating types convert on the CPU; others must be equal).
  Tensor to(Device device, DType dtype) const;
  Tensor to(Device device) const { return to(device, dtype_); }
  /// Copies the elements of `from`, which must have the same shape and element type.
  void copy_from(const Tensor& from);
  void zero();

  /// The elements as a host vector; T must be the element type.
  template <class T>
  std::vector<T> to_vector() const {
    const Tensor host = to(Device::cpu());
    const T* begin = host.data<T>();
    return std::vector<T>(begin, begin + host.size());
  }
  /// The only element of a one-element floating tensor.
  double item() const;

  /// "f32 (2, 3) on cpu"
  std::string str() const;

 private:
  struct Buffer;
  static Tensor from_bytes(const void* values, size_t count, const Shape& shape, DType dtype, Device device);
  [[noreturn]] void wrong_type(DType asked) const;

  std::shared_ptr<Buffer> buffer_;
  void* data_ = nullptr;
  Shape shape_;
  int64_t row_stride_ = 0;
  DType dtype_ = DType::f32;
  Device device_;
};

}  // namespace moeut
