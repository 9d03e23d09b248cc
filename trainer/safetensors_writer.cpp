#include <algorithm>
#include <bit>

#include "core/check.h"
#include "data/json.h"
#include "trainer/safetensors.h"
#include "trainer/safetensors_layout.h"

namespace moeut {
namespace {

static_assert(std::endian::native == std::endian::little,
              "safetensors are little-endian; this machine would need byte swaps");

constexpr size_t kPieceBytes = size_t{4} << 20;  // what `fill` is asked for at a time

using Order = std::vector<const TensorBytes*>;

Order file_order(const std::vector<TensorBytes>& tensors) {
  Order order;
  for (const TensorBytes& tensor : tensors) order.push_back(&tensor);
  std::ranges::sort(order, [](const TensorBytes* a, const TensorBytes* b) {
    return a->type != b->type ? a->type > b->type : a->name < b->name;
  });
  return order;
}

void check(const std::vector<TensorBytes>& tensors) {
  std::vector<std::string_view> names;
  for (const TensorBytes& tensor : tensors) {
    names.push_back(tensor.name);
    require<IoError>(tensor.name != kSafetensorsMetadataKey, "a tensor cannot be called '{}'", tensor.name);
    require<IoError>(tensor.bytes() == 0 || tensor.data != nullptr || tensor.fill,
                     "tensor '{}' has no elements to write", tensor.name);
  }
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  require<IoError>(twice == names.end(), "two tensors to write are called '{}'", twice == names.end() ? "" : *twice);
}

std::string header_of(const Order& order) {
  Json::Object header;
  uint64_t offset = 0;
  for (const TensorBytes* tensor : order) {
    const uint64_t end = offset + tensor->bytes();
    Json::Array shape(tensor->shape.begin(), tensor->shape.end());
    header.emplace_back(tensor->name, Json::Object{{"dtype", std::string(safetensor_type_name(tensor->type))},
                                                   {"shape", std::move(shape)},
                                                   {"data_offsets", Json::Array{offset, end}}});
    offset = end;
  }
  std::string text = Json(std::move(header)).dump();
  text.append((8 - text.size() % 8) % 8, ' ');  // the data begins at a multiple of 8
  require<IoError>(text.size() <= kSafetensorsMaxHeaderBytes,
                   "the header of {} tensors has {} bytes, more than readers accept", order.size(), text.size());
  return text;
}

void write_elements(const TensorBytes& tensor, const ByteSink& sink, std::vector<std::byte>& piece) {
  const uint64_t size = tensor.bytes();
  if (size == 0) return;
  if (tensor.data != nullptr) return sink(tensor.data, size);
  piece.resize(std::min<uint64_t>(kPieceBytes, std::max<uint64_t>(size, piece.size())));
  for (uint64_t offset = 0; offset < size; offset += piece.size()) {
    const size_t bytes = std::min<uint64_t>(piece.size(), size - offset);
    tensor.fill(offset, piece.data(), bytes);
    sink(piece.data(), bytes);
  }
}

}  // namespace

uint64_t safetensors_bytes(const std::vector<TensorBytes>& tensors) {
  check(tensors);
  uint64_t bytes = kSafetensorsPrefixBytes + header_of(file_order(tensors)).size();
  for (const TensorBytes& tensor : tensors) bytes += tensor.bytes();
  return bytes;
}

void write_safetensors(const std::vector<TensorBytes>& tensors, const ByteSink& sink) {
  check(tensors);
  const Order order = file_order(tensors);
  const std::string header = header_of(order);
  const uint64_t length = header.size();
  sink(&length, sizeof length);
  sink(header.data(), header.size());
  std::vector<std::byte> piece;
  for (const TensorBytes* tensor : order) write_elements(*tensor, sink, piece);
}

}  // namespace moeut
