#include "trainer/step_graph.h"

#include "core/check.h"
#include "core/memory.h"

namespace moeut {

StepGraph::StepGraph(MoeutLm& model, AdamW& optimizer)
    : model_(model), optimizer_(optimizer), device_(model.lm_head.weight.value.device()) {
  require<BackendError>(device_.is_cuda(), "step graph: the model is on {}, not on a CUDA device", device_.str());
  // Gradients stay where they are from step to step: not in memory that is used again within one.
  model.visit_parameters([](Parameter& p) {
    if (p.trainable) p.gradient_storage();
  });
}

void StepGraph::queue_step(const Batch& batch, const StepOptions& options) {
  require<Error>(options.timer == nullptr && options.record == nullptr && options.replay == nullptr,
                 "step graph: a step that is timed or traced cannot be recorded; queue it without a graph");
  const WholeBatch whole = options.whole.value_or(WholeBatch::of(batch));
  const StepForm form = StepForm::of(batch, options.micro_batch_size, whole.sequences);
  if (!inputs_ || inputs_->form() != form || recompute_ != options.recompute) begin(form, options.recompute);
  inputs_->write(batch, whole, options.seed);
  optimizer_.set_lr(options.lr);
  if (bytes_ == 0) {
    reset_peak(device_);
    const size_t before = memory_stats(device_).in_use;
    compute_step(model_, optimizer_, *inputs_, options);
    bytes_ = memory_stats(device_).peak - before;
    return;
  }
  if (!graph_) record(options);
  require<Error>(memory_->in_use() == 0,
                 "step graph: {} bytes of its memory are held by something else, which the step would overwrite",
                 memory_->in_use());
  graph_->repeat();
}

void StepGraph::begin(const StepForm& form, bool recompute) {
  graph_.reset();
  memory_.reset();
  bytes_ = 0;
  recompute_ = recompute;
  inputs_.emplace(form, device_, model_.lm_head.weight.value.dtype());
}

void StepGraph::record(const StepOptions& options) {
  trim(device_);  // the first step's blocks: the pool takes their place
  // Best fit leaves holes: without a thirty-second more, 244M asks for its largest block once again.
  memory_.emplace(device_, bytes_ + bytes_ / 32);
  const MemoryPool::Scope own(&*memory_);
  graph_.emplace(device_, [&] { compute_step(model_, optimizer_, *inputs_, options); });
}

}  // namespace moeut
