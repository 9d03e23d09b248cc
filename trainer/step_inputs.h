// What one step reads that the last one did not, on the device: a recorded step finds it at the same place each time.
#pragma once

#include <cstdint>

#include "core/tensor.h"
#include "data/loader.h"

namespace moeut {

/// How a batch is cut.
struct StepForm {
  int64_t sequences = 0, seq_len = 0;
  int64_t micro_batch_size = 0;  ///< most sequences computed at once; 0: all

  /// `micro_batch_size` 0 stands for the whole batch.
  static StepForm of(const Batch& batch, int64_t micro_batch_size);
  int64_t micro_batches() const { return (sequences + micro_batch_size - 1) / micro_batch_size; }
  bool operator==(const StepForm&) const = default;
};

class StepInputs {
 public:
  StepInputs(const StepForm& form, Device device);
  /// Queues the copies of ids and random state; the batch may go when it returns. Throws ShapeError if the batch is of
  /// another form.
  void write(const Batch& batch, uint64_t seed);

  const StepForm& form() const { return form_; }
  struct MicroBatch {
    Tensor tokens, targets;  ///< i32 (sequences, seq_len)
    Tensor rng_state;        ///< an RngState
  };
  MicroBatch micro_batch(int64_t index) const;

 private:
  StepForm form_;
  Tensor tokens_, targets_;  // i32 (sequences, seq_len)
  Tensor rng_states_;        // u64 (micro-batches, 2)
};

/// A batch's ids on `device`: i32 (sequences, seq_len).
Tensor ids_on(Device device, const std::vector<int32_t>& ids, int64_t sequences, int64_t seq_len);

}  // namespace moeut
