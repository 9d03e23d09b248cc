#include "trainer/memory_plan.h"

#include <algorithm>

#include "core/memory.h"
#include "trainer/exact_reduction.h"
#include "trainer/train_step.h"

namespace moeut {
namespace {

size_t in_use() {
  return memory_stats(Device::meta()).in_use;
}

/// A second micro-batch, so that its activations meet the gradients of the first.
Batch some_batch(const StepSize& size, int64_t micro_batch_size) {
  Batch batch{.sequences = std::min(size.batch_size, 2 * micro_batch_size), .seq_len = size.seq_len};
  batch.tokens.resize(static_cast<size_t>(batch.sequences * batch.seq_len));
  batch.targets = batch.tokens;
  return batch;
}

}  // namespace

MemoryPlan plan_memory(const ModelConfig& config, ModuleOptions modules, const OptimizerSection& options,
                       const StepSize& size) {
  const bool on_cpu = modules.device.is_cpu();
  modules.device = Device::meta();
  const int64_t micro = size.micro_batch_size > 0 ? std::min(size.micro_batch_size, size.batch_size) : size.batch_size;
  MemoryPlan plan;
  const size_t before = in_use();
  MoeutLm model(config, 0, modules);
  plan.parameters = in_use() - before;
  AdamW optimizer(options, model.parameters());
  plan.optimizer = in_use() - before - plan.parameters;
  const Batch batch = some_batch(size, micro);
  const auto alone = make_single_communicator();
  ExactReduction reduction(*alone, model.parameters(), (batch.sequences + micro - 1) / micro, false);
  const StepOptions step{
      .micro_batch_size = micro, .recompute = size.recompute, .reduction = on_cpu ? &reduction : nullptr};
  // From the second step on the gradients' memory is there throughout.
  train_step(model, optimizer, batch, step);
  plan.gradients = in_use() - before - plan.parameters - plan.optimizer;
  reset_peak(Device::meta());
  train_step(model, optimizer, batch, step);
  plan.peak = memory_stats(Device::meta()).peak - before;
  plan.activations = plan.peak - plan.parameters - plan.optimizer - plan.gradients;
  return plan;
}

}  // namespace moeut
