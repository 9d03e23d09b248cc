#include "trainer/shard_plan.h"

#include <algorithm>

#include "kernels/optimizer.h"

namespace moeut {
namespace {

constexpr int64_t kBlock = kernels::kOptimizerBlock;
static_assert(ShardPlan::kMostElements % kBlock == 0);

int64_t blocks_of(int64_t elements) {
  return (elements + kBlock - 1) / kBlock;
}

}  // namespace

MicroBatchShare share_of(int64_t micro_batches, int rank, int ranks) {
  const int64_t least = micro_batches / ranks, more = micro_batches % ranks;
  return {rank * least + std::min<int64_t>(rank, more), least + (rank < more ? 1 : 0)};
}

ShardPlan::ShardPlan(const std::vector<Parameter*>& parameters, int ranks)
    : ranges_(static_cast<size_t>(ranks)), pieces_(ranges_.size()) {
  for (Parameter* p : parameters)
    if (p->trainable) parameters_.push_back(p);
  int64_t blocks = 0;
  for (const Parameter* p : parameters_) blocks += blocks_of(p->value.size());
  const auto end_of = [&](int rank) { return blocks * (rank + 1) / ranks; };
  int64_t block = 0;
  int rank = 0;
  for (Parameter* p : parameters_) {
    for (int64_t begin = 0; begin < p->value.size();) {
      while (block == end_of(rank)) ++rank;
      const int64_t size = std::min((end_of(rank) - block) * kBlock, p->value.size() - begin);
      ranges_[static_cast<size_t>(rank)].push_back({p, begin, size});
      for (int64_t done = 0; done < size; done += kMostElements)
        pieces_[static_cast<size_t>(rank)].push_back({p, begin + done, std::min(kMostElements, size - done)});
      begin += size;
      block += blocks_of(size);
    }
  }
}

size_t ShardPlan::most_pieces() const {
  size_t most = 0;
  for (const auto& pieces : pieces_) most = std::max(most, pieces.size());
  return most;
}

int64_t ShardPlan::blocks(int rank) const {
  int64_t blocks = 0;
  for (const ParameterRange& range : ranges(rank)) blocks += blocks_of(range.size);
  return blocks;
}

int64_t ShardPlan::most_blocks() const {
  int64_t most = 0;
  for (int rank = 0; rank < ranks(); ++rank) most = std::max(most, blocks(rank));
  return most;
}

}  // namespace moeut
