#include "trainer/async_saver.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <utility>

#include "core/check.h"

namespace moeut {
namespace {

void own(TensorBytes& tensor) {
  const uint64_t bytes = tensor.bytes();
  const std::shared_ptr<std::byte[]> copy(new std::byte[std::max<uint64_t>(bytes, 1)]);
  if (tensor.data != nullptr)
    std::memcpy(copy.get(), tensor.data, bytes);
  else if (bytes > 0)
    tensor.fill(0, copy.get(), bytes);
  tensor.data = nullptr;
  tensor.fill = [copy](uint64_t offset, void* out, size_t count) { std::memcpy(out, copy.get() + offset, count); };
}

}  // namespace

CheckpointContent copy_of(CheckpointContent content) {
  for (auto* tensors : {&content.model, &content.optimizer, &content.ema})
    for (TensorBytes& tensor : *tensors) own(tensor);
  return content;
}

void AsyncSaver::begin(CheckpointContent content) {
  require<Error>(!under_way(), "a save is under way: wait for it first");
  saving_ = std::async(std::launch::async, [this, content = std::move(content)] {
    SavedCheckpoint saved;
    saved.folder = store_.save(content, &saved.warnings);
    return saved;
  });
}

std::optional<SavedCheckpoint> AsyncSaver::take_if_done() {
  if (!under_way() || saving_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return std::nullopt;
  return saving_.get();
}

std::optional<SavedCheckpoint> AsyncSaver::wait() {
  if (!under_way()) return std::nullopt;
  return saving_.get();
}

}  // namespace moeut
