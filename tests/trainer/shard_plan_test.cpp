#include "trainer/shard_plan.h"

#include <doctest/doctest.h>

#include "kernels/optimizer.h"

using namespace moeut;

namespace {

constexpr int64_t kBlock = kernels::kOptimizerBlock;

std::vector<Parameter> parameters_of(const std::vector<int64_t>& sizes) {
  std::vector<Parameter> parameters;
  for (const int64_t size : sizes) {
    parameters.emplace_back();
    parameters.back().value = Tensor::empty({size}, DType::f32, Device::meta());
  }
  return parameters;
}

std::vector<Parameter*> pointers(std::vector<Parameter>& parameters) {
  std::vector<Parameter*> all;
  for (Parameter& p : parameters) all.push_back(&p);
  return all;
}

}  // namespace

TEST_CASE("micro-batches are dealt out as evenly as they go, in order") {
  for (const auto& [micro_batches, ranks] : {std::pair<int64_t, int>{12, 1}, {12, 5}, {5, 4}, {3, 3}, {2, 4}}) {
    int64_t next = 0, most = 0, least = micro_batches;
    for (int rank = 0; rank < ranks; ++rank) {
      const MicroBatchShare share = share_of(micro_batches, rank, ranks);
      CHECK(share.first == next);
      next += share.count;
      most = std::max(most, share.count);
      least = std::min(least, share.count);
    }
    CHECK(next == micro_batches);
    CHECK(most - least <= 1);
  }
}

TEST_CASE("every element has one owner, and cuts lie between blocks") {
  std::vector<Parameter> parameters = parameters_of({1, 3 * kBlock + 7, kBlock, 200 * kBlock, 5, 12 * kBlock - 1});
  for (const int ranks : {1, 2, 3, 7, 64, 400}) {
    CAPTURE(ranks);
    const ShardPlan plan(pointers(parameters), ranks);
    const Parameter* parameter = &parameters.front();
    int64_t next = 0, blocks = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      for (const ParameterRange& range : plan.ranges(rank)) {
        if (next == parameter->value.size()) {
          ++parameter;
          next = 0;
        }
        CHECK(range.parameter == parameter);
        CHECK(range.begin == next);
        CHECK(range.begin % kBlock == 0);
        CHECK(range.size > 0);
        next += range.size;
      }
      CHECK(plan.blocks(rank) <= plan.most_blocks());
      blocks += plan.blocks(rank);
    }
    CHECK(parameter == &parameters.back());
    CHECK(next == parameter->value.size());
    CHECK(blocks == 1 + 4 + 1 + 200 + 1 + 12);
    CHECK(plan.most_blocks() <= blocks / ranks + 1);
  }
}

TEST_CASE("pieces are the ranges, cut to a length that messages have") {
  std::vector<Parameter> parameters = parameters_of({3 * ShardPlan::kMostElements + 5, 9});
  const ShardPlan plan(pointers(parameters), 2);
  for (int rank = 0; rank < 2; ++rank) {
    int64_t in_ranges = 0, in_pieces = 0;
    for (const ParameterRange& range : plan.ranges(rank)) in_ranges += range.size;
    for (const ParameterRange& piece : plan.pieces(rank)) {
      CHECK(piece.size <= ShardPlan::kMostElements);
      in_pieces += piece.size;
    }
    CHECK(in_ranges == in_pieces);
    CHECK(plan.pieces(rank).size() <= plan.most_pieces());
  }
}
