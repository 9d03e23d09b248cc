#include "trainer/evaluator.h"

#include <algorithm>

#include "autograd/ops/cross_entropy.h"
#include "trainer/step_inputs.h"

namespace moeut {
namespace {

double summed_loss(MoeutLm& model, const Batch& batch) {
  Tape tape(Tape::Recording::off);
  ForwardContext context(tape);
  const Device device = model.lm_head.weight.value.device();
  const Tensor tokens = ids_on(device, batch.tokens, batch.sequences, batch.seq_len);
  const Tensor targets = ids_on(device, batch.targets, batch.sequences, batch.seq_len);
  const Tensor document_starts =
      batch.document_starts.empty() ? Tensor() : ids_on(device, batch.document_starts, batch.sequences, batch.seq_len);
  const Variable logits =
      model.forward(context, tokens, {.mask = attention_mask(document_starts), .cache = nullptr}).outputs;
  const Tensor rows = ops::cross_entropy(tape, logits, targets, 1).row_loss.to(Device::cpu(), DType::f64);
  double sum = 0;
  for (int64_t i = 0; i < rows.size(); ++i) sum += rows.data<double>()[i];
  return sum;
}

}  // namespace

std::optional<double> validation_loss(MoeutLm& model, const Loader& loader, const EvaluationOptions& options) {
  const auto available = static_cast<int64_t>(loader.samples_per_epoch());
  const int64_t sequences = options.sequences > 0 ? std::min(options.sequences, available) : available;
  const int64_t ranks = options.ranks != nullptr ? options.ranks->size() : 1;
  const int64_t rank = options.ranks != nullptr ? options.ranks->rank() : 0;
  double sum = 0;
  for (int64_t round = 0; round < sequences; round += ranks * options.batch_size) {
    if (options.interrupted()) return std::nullopt;
    const int64_t first = round + rank * options.batch_size;
    double own = 0;
    if (first < sequences)
      own =
          summed_loss(model, loader.get(static_cast<uint64_t>(first), std::min(options.batch_size, sequences - first)));
    if (ranks == 1) {
      sum += own;
      continue;
    }
    const Watchdog::Waiting waiting(options.ranks->watchdog());
    for (const double part : options.ranks->communicator().all_gather_value(own)) sum += part;
  }
  return sum / static_cast<double>(loader.real_targets(0, sequences));
}

}  // namespace moeut
