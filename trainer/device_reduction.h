// The reduction on GPUs: float32 (or bfloat16) sums by NCCL, under way while the backward pass goes on.
#pragma once

#include <unordered_set>
#include <vector>

#include "trainer/communicator.h"
#include "trainer/config.h"
#include "trainer/gradient_reduction.h"

namespace moeut {

/// When the buckets of one step left and arrived, on the device's clock. For steps that are not recorded.
struct ReductionTrace {
  struct Bucket {
    size_t bytes = 0;
    backend::EventHandle begin = nullptr, end = nullptr;  ///< destroyed by whoever has the trace
  };
  std::vector<Bucket> buckets;
  backend::EventHandle backward_end = nullptr;  ///< of the last micro-batch
};

/// Micro-batches of a rank are added in place. In the last one's backward pass every gradient that is complete joins a
/// bucket; a full bucket is summed on a stream of its own while the pass goes on (docs/scaling.md says what that buys).
/// The order, and with it the result, is the same in every step and on every rank.
class DeviceReduction final : public GradientReduction, public ShardExchange {
 public:
  struct Options {
    bool sharded = false;
    ReducePrecision precision = ReducePrecision::fp32;
    bool overlap = true;  ///< false: all buckets leave after the backward pass
    size_t bucket_bytes = size_t{25} << 20;
    ReductionTrace* trace = nullptr;  ///< filled by every step, if set
  };
  /// The communicator must have device collectives; it and the parameters, on one CUDA device, must outlive this.
  DeviceReduction(Communicator& communicator, const std::vector<Parameter*>& parameters, const Options& options);
  ~DeviceReduction() override;

  void watch(Tape& tape, bool last) override;
  void add(AdamW& optimizer, const Tensor& loss, const Tensor& reg_loss) override;
  void finish(AdamW& optimizer) override;

  const ShardPlan& plan() const override { return plan_; }
  int rank() const override { return communicator_.rank(); }
  void sum_norm(const double* own_blocks, double* squared_norm) override;
  void share_values(Values what) override;
  void collect(Parameter& parameter, Tensor& whole) override;

 private:
  void join(Parameter& parameter);
  void send_bucket();
  void mark_begin();
  void mark_end();
  void sum_elements(Parameter& parameter, void* data, DType type);
  void narrow_bucket();
  void widen_bucket();
  /// tensor_of(parameter) of all, from the owners to the others, in the compute stream.
  template <class F>
  void spread(F&& tensor_of);

  Communicator& communicator_;
  DeviceCollectives& collectives_;
  Options options_;
  ShardPlan plan_;
  std::unordered_set<const Parameter*> joined_;  // of the step under way
  std::vector<Parameter*> bucket_;
  size_t bucket_bytes_ = 0;
  Tensor narrow_;  // bfloat16: the gradients of a bucket
  backend::StreamHandle stream_ = nullptr;
  backend::EventHandle ready_ = nullptr, done_ = nullptr;
};

}  // namespace moeut
