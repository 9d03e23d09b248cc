#include "kernels/cuda/cudnn_graph.h"

#include <limits>

#include "kernels/cuda/cudnn_api.cuh"

namespace moeut::kernels::cuda {

namespace {

cudnnDataType_t type_of(DType type) {
  switch (type) {
    case DType::bf16:
      return CUDNN_DATA_BFLOAT16;
    case DType::f16:
      return CUDNN_DATA_HALF;
    case DType::i32:
      return CUDNN_DATA_INT32;
    case DType::u8:
      return CUDNN_DATA_BOOLEAN;
    default:
      return CUDNN_DATA_FLOAT;
  }
}

cudnnPointwiseMode_t mode_of(CudnnPointwise op) {
  constexpr cudnnPointwiseMode_t kModes[] = {CUDNN_POINTWISE_ADD, CUDNN_POINTWISE_SUB, CUDNN_POINTWISE_MUL,
                                             CUDNN_POINTWISE_DIV, CUDNN_POINTWISE_EXP, CUDNN_POINTWISE_LOG};
  return kModes[static_cast<int>(op)];
}

/// What an elementwise operation does.
void describe(void* function, cudnnPointwiseMode_t mode, cudnnDataType_t compute = CUDNN_DATA_FLOAT) {
  set(function, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, &mode);
  set(function, CUDNN_ATTR_POINTWISE_MATH_PREC, compute);
}

}  // namespace

// ---------------------------------------------------------------- tensors

void* CudnnGraph::make(int kind) {
  return parts_.descriptors.emplace_back(create(static_cast<cudnnBackendDescriptorType_t>(kind))).get();
}

CudnnTensor CudnnGraph::tensor(int64_t number, const CudnnExtents& extents, const CudnnExtents& strides, DType type,
                               Place place) {
  void* t = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  const int64_t alignment = type == DType::f32 ? 4 : 16;
  const bool on_chip = place == Place::chip, on_host = place == Place::host;
  set(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, &number);
  set(t, CUDNN_ATTR_TENSOR_DATA_TYPE, type_of(type));
  set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, extents.data(), extents.size());
  set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, strides.data(), strides.size());
  set(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, &alignment);
  set(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, &on_chip);
  set(t, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, &on_host);
  check(cudnnBackendFinalize(t));
  return {t, extents, strides};
}

CudnnTensor CudnnGraph::operand(int64_t number, const CudnnExtents& extents, const CudnnExtents& strides, DType type) {
  return tensor(number, extents, strides, type, Place::global);
}

CudnnTensor CudnnGraph::constant(float value) {
  parts_.constants.emplace_back(next_number_, std::make_unique<float>(value));
  return tensor(next_number_++, {1, 1, 1, 1}, {1, 1, 1, 1}, DType::f32, Place::host);
}

CudnnTensor CudnnGraph::inner(const CudnnExtents& n, DType type) {
  return tensor(next_number_++, n, {n[1] * n[2] * n[3], n[2] * n[3], n[3], 1}, type, Place::chip);
}

// ---------------------------------------------------------------- operations

void CudnnGraph::append(void* operation) {
  check(cudnnBackendFinalize(operation));
  parts_.operations.push_back(operation);
}

void CudnnGraph::matmul(const CudnnTensor& a, const CudnnTensor& b, const CudnnTensor& c) {
  void* function = make(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
  set(function, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
  check(cudnnBackendFinalize(function));
  void* operation = make(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_DESC, function);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c.descriptor);
  append(operation);
}

void CudnnGraph::append_pointwise(void* function, std::initializer_list<CudnnTensor> inputs, const CudnnTensor& y) {
  constexpr cudnnBackendAttributeName_t kInputs[] = {
      CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_ATTR_OPERATION_POINTWISE_TDESC};
  check(cudnnBackendFinalize(function));
  void* operation = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, function);
  set(operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y.descriptor);
  const cudnnBackendAttributeName_t* name = kInputs;
  for (const CudnnTensor& x : inputs) set(operation, *name++, x.descriptor);
  append(operation);
}

void CudnnGraph::pointwise(CudnnPointwise op, std::initializer_list<CudnnTensor> inputs, const CudnnTensor& y) {
  void* function = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  describe(function, mode_of(op));
  append_pointwise(function, inputs, y);
}

CudnnTensor CudnnGraph::pointwise(CudnnPointwise op, std::initializer_list<CudnnTensor> inputs) {
  const CudnnTensor y = inner(inputs.begin()->extents);
  pointwise(op, inputs, y);
  return y;
}

CudnnTensor CudnnGraph::reduce(CudnnReduction op, const CudnnTensor& x) {
  const CudnnTensor y = inner({x.extents[0], x.extents[1], x.extents[2], 1});
  const cudnnReduceTensorOp_t mode = op == CudnnReduction::sum ? CUDNN_REDUCE_TENSOR_ADD : CUDNN_REDUCE_TENSOR_MAX;
  void* function = make(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  set(function, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
  set(function, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, &mode);
  check(cudnnBackendFinalize(function));
  void* operation = make(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC, function);
  set(operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y.descriptor);
  append(operation);
  return y;
}

CudnnTensor CudnnGraph::transpose(const CudnnTensor& x, DType type) {
  CudnnExtents extents = x.extents, strides = x.strides;
  std::swap(extents[2], extents[3]);
  std::swap(strides[2], strides[3]);
  const CudnnTensor y = tensor(next_number_++, extents, strides, type, Place::chip);
  void* operation = make(CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR);
  set(operation, CUDNN_ATTR_OPERATION_RESHAPE_XDESC, x.descriptor);
  set(operation, CUDNN_ATTR_OPERATION_RESHAPE_YDESC, y.descriptor);
  append(operation);
  return y;
}

CudnnTensor CudnnGraph::coordinate(int64_t axis, const CudnnTensor& of) {
  const CudnnTensor y = inner(of.extents, DType::i32);
  void* function = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  describe(function, CUDNN_POINTWISE_GEN_INDEX);
  set(function, CUDNN_ATTR_POINTWISE_AXIS, CUDNN_TYPE_INT64, &axis);
  append_pointwise(function, {of}, y);
  return y;
}

CudnnTensor CudnnGraph::causal(const CudnnTensor& x) {
  const CudnnTensor row = coordinate(2, x), column = coordinate(3, x), seen = inner(x.extents, DType::u8);
  void* compare = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  describe(compare, CUDNN_POINTWISE_CMP_GE, CUDNN_DATA_BOOLEAN);
  append_pointwise(compare, {row, column}, seen);
  const CudnnTensor y = inner(x.extents);
  void* select = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  describe(select, CUDNN_POINTWISE_BINARY_SELECT);
  append_pointwise(select, {x, constant(-std::numeric_limits<float>::infinity()), seen}, y);
  return y;
}

}  // namespace moeut::kernels::cuda
