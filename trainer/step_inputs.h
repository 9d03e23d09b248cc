// What one step reads that the last one did not, on the device: a recorded step finds it at the same place each time.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "data/loader.h"
#include "layers/attention_layer.h"

namespace moeut {

/// The batch of a step, of which a rank may have only a part.
struct WholeBatch {
  int64_t sequences = 0, targets = 0;

  static WholeBatch of(const Batch& batch) { return {batch.sequences, batch.real_targets()}; }
};

/// How a rank's part of a batch is cut.
struct StepForm {
  int64_t sequences = 0, seq_len = 0;
  int64_t whole_sequences = 0;   ///< of all ranks' parts together
  int64_t micro_batch_size = 0;  ///< most sequences computed at once; 0: all
  bool padded = false;           ///< its number of targets varies from batch to batch
  bool document_mask = false;    ///< attention stays within documents

  /// `micro_batch_size` 0 stands for all of it.
  static StepForm of(const Batch& batch, int64_t micro_batch_size, int64_t whole_sequences);
  int64_t micro_batches() const { return (sequences + micro_batch_size - 1) / micro_batch_size; }
  bool operator==(const StepForm&) const = default;
};

class StepInputs {
 public:
  /// `wide`: the type of losses.
  StepInputs(const StepForm& form, Device device, DType wide);
  /// Queues the copies of ids and random state; the batch may go when it returns. Throws ShapeError if the batch is of
  /// another form.
  void write(const Batch& batch, const WholeBatch& whole, uint64_t seed);

  const StepForm& form() const { return form_; }
  struct MicroBatch {
    Tensor tokens, targets;  ///< i32 (sequences, seq_len)
    Tensor rng_state;        ///< an RngState
    Tensor document_starts;  ///< i32 (sequences, seq_len), see Batch; undefined without a document mask
  };
  MicroBatch micro_batch(int64_t index) const;
  /// 1 / targets of the whole batch, a scalar: what a padded batch's cross-entropy is multiplied by. Undefined if all
  /// batches of the form have the same number.
  const Tensor& per_target() const { return per_target_; }

 private:
  void write_per_target(int64_t targets);

  StepForm form_;
  Tensor tokens_, targets_;  // i32 (sequences, seq_len)
  Tensor rng_states_;        // u64 (micro-batches, 2)
  Tensor document_starts_;   // i32 (sequences, seq_len) or undefined
  Tensor per_target_;        // one element or undefined
};

/// What a model's attention may see: nothing later, and nothing of another document where `document_starts`, as in
/// MicroBatch, is defined.
AttentionMask attention_mask(const Tensor& document_starts);

/// A batch's ids on `device`: i32 (sequences, seq_len).
Tensor ids_on(Device device, const std::vector<int32_t>& ids, int64_t sequences, int64_t seq_len);

}  // namespace moeut
