// Training steps as a CUDA graph: one call of the host a step instead of one a kernel.
#pragma once

#include <optional>

#include "core/device_graph.h"
#include "core/memory_pool.h"
#include "trainer/train_step.h"

namespace moeut {

/// Queues the training steps of one model. Of every form of step the first runs kernel by kernel, which loads and
/// chooses kernels and shows how much memory a step takes; the second is recorded, and it and all later ones are runs
/// of the recording. The results are the same bits. The graph has memory of its own, as much as the first step took:
/// nothing else may hold any of it while a step runs.
class StepGraph {
 public:
  /// Both must be on one CUDA device, outlive this, and keep their tensors.
  StepGraph(MoeutLm& model, AdamW& optimizer);

  /// As the function of the same name. Takes neither timer nor traces, which need the host: throws Error. So it does if
  /// something else still lies in the graph's memory. The first step begins the peak of memory_stats anew.
  void queue_step(const Batch& batch, const StepOptions& options);
  /// What is done between two steps may use the graph's memory (MemoryPool::Scope); null: there is none yet.
  MemoryPool* memory() { return memory_ ? &*memory_ : nullptr; }

 private:
  void begin(const StepForm& form, bool recompute);
  void record(const StepOptions& options);

  MoeutLm& model_;
  AdamW& optimizer_;
  Device device_;
  bool recompute_ = false;
  std::optional<StepInputs> inputs_;
  size_t bytes_ = 0;  // that the first step took; 0: there was none
  std::optional<MemoryPool> memory_;
  std::optional<DeviceGraph> graph_;
};

}  // namespace moeut
