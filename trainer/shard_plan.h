// Who does what of a step that several ranks share.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "autograd/parameter.h"

namespace moeut {

/// The micro-batches of a step that one rank computes: `count` of them from `first` on.
struct MicroBatchShare {
  int64_t first = 0, count = 0;
};
/// As even as it goes; the first ranks have one more.
MicroBatchShare share_of(int64_t micro_batches, int rank, int ranks);

/// Elements [begin, begin + size) of a parameter.
struct ParameterRange {
  Parameter* parameter = nullptr;
  int64_t begin = 0, size = 0;
};

/// Where element `index` of a dense tensor lies.
inline char* address_of(const Tensor& tensor, int64_t index) {
  return static_cast<char*>(tensor.raw()) + static_cast<size_t>(index) * size_of(tensor.dtype());
}

/// All elements of the trainable ones of some parameters, cut so that each rank owns about as many: what it sums of the
/// gradients and, with train.shard_optimizer, updates. Cuts lie between blocks of kernels::kOptimizerBlock elements,
/// and rank by rank the blocks are in their order: sums over blocks do not depend on the number of ranks.
class ShardPlan {
 public:
  ShardPlan(const std::vector<Parameter*>& parameters, int ranks);

  /// The trainable ones.
  const std::vector<Parameter*>& parameters() const { return parameters_; }
  int ranks() const { return static_cast<int>(ranges_.size()); }
  /// What a rank owns, at most one range a parameter.
  std::span<const ParameterRange> ranges(int rank) const { return ranges_[static_cast<size_t>(rank)]; }
  /// The same in pieces of at most kMostElements, in the same order.
  std::span<const ParameterRange> pieces(int rank) const { return pieces_[static_cast<size_t>(rank)]; }
  static constexpr int64_t kMostElements = int64_t{1} << 20;
  /// Of the rank that has most.
  size_t most_pieces() const;
  /// Blocks of the elements that a rank owns.
  int64_t blocks(int rank) const;
  int64_t most_blocks() const;

 private:
  std::vector<Parameter*> parameters_;
  std::vector<std::vector<ParameterRange>> ranges_, pieces_;
};

}  // namespace moeut
