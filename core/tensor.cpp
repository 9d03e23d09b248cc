#include "core/tensor.h"

#include "core/check.h"
#include "core/memory.h"

namespace moeut {

struct Tensor::Buffer {
  Buffer(Device d, size_t n) : device(d), bytes(n), data(allocate(d, n)) {}
  ~Buffer() { release(device, data, bytes); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  Device device;
  size_t bytes;
  void* data;
};

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device, int64_t row_stride) {
  const int64_t stride = row_stride == 0 ? shape.row_size() : row_stride;
  const auto elements = static_cast<size_t>(shape.rows() * stride);
  auto buffer = std::make_shared<Buffer>(device, elements * size_of(dtype));
  Tensor t = view_of(buffer->data, shape, dtype, device, stride);
  t.buffer_ = std::move(buffer);
  return t;
}

Tensor Tensor::zeros(const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.zero();
  return t;
}

Tensor Tensor::view_of(void* data, const Shape& shape, DType dtype, Device device, int64_t row_stride) {
  const int64_t stride = row_stride == 0 ? shape.row_size() : row_stride;
  require<ShapeError>(stride >= shape.row_size(), "tensor: rows of {} elements cannot be {} apart", shape.row_size(),
                      stride);
  Tensor t;
  t.data_ = data;
  t.shape_ = shape;
  t.row_stride_ = stride;
  t.dtype_ = dtype;
  t.device_ = device;
  return t;
}

Tensor Tensor::from_bytes(const void* values, size_t count, const Shape& shape, DType dtype, Device device) {
  require<ShapeError>(static_cast<int64_t>(count) == shape.size(), "tensor: {} values do not fill shape {}", count,
                      shape.str());
  Tensor t = empty(shape, dtype, device);
  copy_bytes(device, t.data_, Device::cpu(), values, t.bytes());
  return t;
}

Tensor Tensor::reshape(const Shape& shape) const {
  require<ShapeError>(shape.size() == size(), "reshape: {} has {} elements, {} has {}", shape_.str(), size(),
                      shape.str(), shape.size());
  require<ShapeError>(dense() || shape.row_size() == shape_.row_size(),
                      "reshape: rows of {} are pitched ({} elements apart)", shape_.str(), row_stride_);
  Tensor t = *this;
  t.row_stride_ = dense() ? shape.row_size() : row_stride_;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::slice(int64_t begin, int64_t count) const {
  require<ShapeError>(shape_.rank() > 0 && begin >= 0 && count >= 0 && begin + count <= shape_[0],
                      "slice: [{}, {}) is outside {}", begin, begin + count, shape_.str());
  auto extents = shape_.extents();
  const int64_t elements = shape_.rank() == 1 ? 1 : shape_.rows() / std::max<int64_t>(shape_[0], 1) * row_stride_;
  extents[0] = count;
  Tensor t = *this;
  t.shape_ = Shape(extents);
  t.data_ = static_cast<char*>(data_) + static_cast<size_t>(begin * elements) * size_of(dtype_);
  if (shape_.rank() == 1) t.row_stride_ = count;
  return t;
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_, device_, row_stride_);
  copy_bytes(device_, t.data_, device_, data_, static_cast<size_t>(shape_.rows() * row_stride_) * size_of(dtype_));
  return t;
}

namespace {

/// f.operator()<T>() for the type of the elements, if it is floating; false otherwise.
template <class F>
bool with_floating(DType type, F&& f) {
  switch (type) {
    case DType::f32:
      return f.template operator()<float>(), true;
    case DType::f64:
      return f.template operator()<double>(), true;
    case DType::tf32:
      return f.template operator()<TFloat32>(), true;
    case DType::bf16:
      return f.template operator()<BFloat16>(), true;
    case DType::f16:
      return f.template operator()<Float16>(), true;
    default:
      return false;
  }
}

template <class From, class To>
void convert(const Tensor& from, Tensor& to) {
  const From* in = from.data<From>();
  To* out = to.data<To>();
  for (int64_t i = 0; i < from.size(); ++i)
    out[i] = static_cast<To>(static_cast<Wide<To>>(static_cast<Wide<From>>(in[i])));
}

}  // namespace

Tensor Tensor::to(Device device, DType dtype) const {
  require<ShapeError>(dense(), "to: pitched rows of {} cannot be moved", str());
  Tensor moved = empty(shape_, dtype_, device);
  copy_bytes(device, moved.data_, device_, data_, bytes());
  if (dtype == dtype_) return moved;
  require<ShapeError>(is_floating(dtype) && is_floating(dtype_) && (device.is_cpu() || device.is_meta()),
                      "to: no conversion from {} to {} on {}", name_of(dtype_), name_of(dtype), device.str());
  Tensor converted = empty(shape_, dtype, device);
  if (device.is_meta()) return converted;
  with_floating(dtype_,
                [&]<class From>() { with_floating(dtype, [&]<class To>() { convert<From, To>(moved, converted); }); });
  return converted;
}

void Tensor::copy_from(const Tensor& from) {
  require<ShapeError>(from.shape_ == shape_ && from.dtype_ == dtype_ && dense() && from.dense(), "copy: {} from {}",
                      str(), from.str());
  copy_bytes(device_, data_, from.device_, from.data_, bytes());
}

void Tensor::zero() {
  zero_bytes(device_, data_, static_cast<size_t>(shape_.rows() * row_stride_) * size_of(dtype_));
}

double Tensor::item() const {
  require<ShapeError>(size() == 1, "item: {} has {} elements", str(), size());
  if (device_.is_meta()) return 0;
  const Tensor value = to(Device::cpu(), dtype_);
  return dtype_ == DType::f64 ? *value.data<double>() : static_cast<double>(*value.data<float>());
}

std::string Tensor::str() const {
  return defined() ? fmt::format("{} {} on {}", name_of(dtype_), shape_.str(), device_.str()) : "undefined tensor";
}

void Tensor::wrong_type(DType asked) const {
  throw ShapeError(fmt::format("tensor: {} was asked for as {}", str(), name_of(asked)));
}

}  // namespace moeut
