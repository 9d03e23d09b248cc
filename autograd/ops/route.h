// Routing: from logits to gates and sorted (row, expert) pairs.
#pragma once

#include "autograd/ops/dropout.h"
#include "autograd/tape.h"

namespace moeut::ops {

/// A routing decision. Pair s belongs to row s / k; rows are tokens, or (token, head) for attention experts.
struct Routing {
  Variable gate;   ///< (rows, k): the plain sigmoid of the chosen experts' logits
  Tensor expert;   ///< i32 (rows, k): their ids, head · E + e
  Tensor order;    ///< i32 (rows·k): pairs sorted by expert, stable
  Tensor place;    ///< i32 (rows·k): the inverse of order
  Tensor offsets;  ///< i32 (heads·E + 1)
  int64_t k = 1;

  int64_t rows() const { return expert.shape()[0]; }
  int64_t pairs() const { return expert.size(); }
  int64_t experts() const { return offsets.size() - 1; }
};

struct RouteOptions {
  int64_t heads = 1;
  int64_t k = 1;
  double expert_dropout = 0;
  DropoutSource source;  ///< used if expert_dropout > 0
  Tensor forced;         ///< i32 (rows, k) ids to take instead of the top-k, or undefined
};

/// The k best experts of each row by the ranking rule of moeut.md, their gates and the pairs in expert order.
/// logits: (B, T, heads·E). The gradient flows through the gates of the chosen experts only.
/// Throws ShapeError unless 1 <= k <= E and forced ids are experts of their rows.
Routing route(Tape& tape, const Variable& logits, const RouteOptions& options);

}  // namespace moeut::ops
