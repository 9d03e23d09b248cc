// The reduction on CPUs: bit for bit the same for any number of ranks.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "trainer/communicator.h"
#include "trainer/gradient_reduction.h"
#include "trainer/gradient_sum.h"

namespace moeut {

/// Exact sums (kernels/exact_sum.h) of the micro-batches' gradients, each rounded once to the gradient's type. A rank
/// with one micro-batch sends its gradient as it is, one with more sends 8 bytes an element; every element goes to its
/// owner, which sums, and comes back. Nothing travels before the last micro-batch is done. A step of one micro-batch,
/// of one rank, costs nothing.
class ExactReduction final : public GradientReduction, public ShardExchange {
 public:
  /// `micro_batches`: of a step, all ranks together. With `sharded` results stay with their owners. Parameters (the
  /// trainable ones count) and communicator must outlive this.
  ExactReduction(Communicator& communicator, const std::vector<Parameter*>& parameters, int64_t micro_batches,
                 bool sharded);

  void watch(Tape&, bool) override {}
  void add(AdamW& optimizer, const Tensor& loss, const Tensor& reg_loss) override;
  void finish(AdamW& optimizer) override;

  const ShardPlan& plan() const override { return plan_; }
  int rank() const override { return communicator_.rank(); }
  void sum_norm(const double* own_blocks, double* squared_norm) override;
  void share_values(Values what) override;
  void collect(Parameter& parameter, Tensor& whole) override;

 private:
  /// What another rank has sent of a piece.
  struct Received {
    std::unique_ptr<double[]> values, rests;
    GradientPart part;
  };
  MicroBatchShare share(int rank) const { return share_of(micro_batches_, rank, communicator_.size()); }
  bool computes(int rank) const { return share(rank).count > 0; }
  /// Its contribution is a GradientSum.
  bool sums(int rank) const { return share(rank).count > 1; }
  GradientPart own_part(const ParameterRange& piece) const;
  void share_losses(AdamW& optimizer);
  void reduce();
  void exchange_flags();
  void send_part(int owner, const ParameterRange& piece, std::vector<Message>& sends) const;
  void receive_part(int from, size_t first_chunk, const ParameterRange& piece, Received& into,
                    std::vector<Message>& receives) const;
  void sum_piece(const ParameterRange& piece, const std::vector<Received>& others) const;
  /// tensor_of(parameter) of every rank's piece `index`, from its owner to all others; an undefined one does not
  /// travel.
  template <class F>
  void spread_piece(size_t index, F&& tensor_of, std::vector<Message>& sends, std::vector<Message>& receives) const;
  template <class F>
  void spread(F&& tensor_of);

  Communicator& communicator_;
  int64_t micro_batches_;
  bool sharded_;
  ShardPlan plan_;
  int64_t done_ = 0;            // micro-batches of the step under way
  std::vector<double> losses_;  // theirs: cross-entropy, regulariser, …
  std::unordered_map<const Parameter*, GradientSum> sums_;
  std::vector<std::vector<uint8_t>> flags_;  // by rank: which chunks of what this rank owns have a rest there
};

}  // namespace moeut
