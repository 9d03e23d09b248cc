#include "trainer/benchmark/operands.h"

#include <algorithm>

#include "core/memory.h"
#include "core/rng.h"

namespace moeut {
namespace {

constexpr int64_t kBlock = 1 << 17;

/// The first `done` elements again and again.
void repeat(const Tensor& t, int64_t done) {
  const size_t element = size_of(t.dtype());
  auto* begin = static_cast<char*>(t.raw());
  while (done < t.size()) {
    const int64_t count = std::min(done, t.size() - done);
    copy_bytes(t.device(), begin + static_cast<size_t>(done) * element, t.device(), begin,
               static_cast<size_t>(count) * element);
    done += count;
  }
}

}  // namespace

Tensor random_operand(const Shape& shape, DType type, Device device, uint64_t stream, double scale) {
  Tensor t = Tensor::empty(shape, type, device);
  const int64_t count = std::min(kBlock, t.size());
  Rng rng(0, stream);
  std::vector<double> values(static_cast<size_t>(count));
  for (double& v : values) v = scale * rng.normal();
  const Tensor block = Tensor::from(values, {count}).to(Device::cpu(), type);
  copy_bytes(device, t.raw(), Device::cpu(), block.raw(), block.bytes());
  repeat(t, count);
  return t;
}

Tensor random_ids(int64_t count, int64_t bound, Device device, uint64_t stream) {
  Rng rng(1, stream);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t& id : ids) id = static_cast<int32_t>(rng.uniform() * static_cast<double>(bound));
  return Tensor::from(ids, {count}, device);
}

ops::Routing random_routing(const KernelShape& shape, Device device, uint64_t stream) {
  Tape tape(Tape::Recording::off);
  const Tensor logits =
      random_operand({shape.batch, shape.time, shape.model.ff_n_experts}, shape.wide(), device, stream);
  return ops::route(tape, Variable(logits), {.k = shape.model.ff_k});
}

}  // namespace moeut
