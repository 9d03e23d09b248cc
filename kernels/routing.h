// From router logits to sorted (token, expert) pairs.
// A *row* is one decision: a token for the feed-forward experts, a (token, head) for the attention experts. Each row
// chooses K of E experts: K *pairs*. Pair s belongs to row s / K. With `heads` > 1, row r routes among the experts of
// head r % heads, and the experts of all heads are numbered through: id = head · E + expert.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"
#include "core/rng.h"

namespace moeut::kernels {

/// The pairs of one routing decision in expert order; all arrays in the kernel's memory.
struct Route {
  int64_t pairs = 0;
  int64_t experts = 0;               ///< heads · E
  const int32_t* order = nullptr;    ///< (pairs): the pair at sorted place r
  const int32_t* place = nullptr;    ///< (pairs): the sorted place of pair s; the inverse of `order`
  const int32_t* expert = nullptr;   ///< (pairs): the expert id of pair s
  const int32_t* offsets = nullptr;  ///< (experts + 1): expert e has the places [offsets[e], offsets[e + 1])
};

/// The K experts of each row: ranked first by 'not excluded', then by p = sigmoid(logit), then by lower index; in that
/// order. Expert dropout excludes each expert of each row with probability `drop` (element = row in its sequence · E +
/// expert at `site`). logits: (rows, E)   expert: (rows, K) ids   gate: (rows, K) = the plain sigmoid of the chosen.
/// Overwritten. `forced` (rows, K), if given, are the ids to take instead. Launcher's duty: 1 <= K <= E.
template <class T>
struct TopK {
  int64_t rows = 0, experts = 0, k = 0, heads = 1;
  const T* logits = nullptr;
  int64_t ld_logits = 0;
  const int32_t* forced = nullptr;
  double drop = 0;
  const RngState* rng = nullptr;
  uint64_t site = 0;
  int64_t rows_per_sequence = 0;
  int32_t* expert = nullptr;
  T* gate = nullptr;
};
template <class T>
void top_k(Cpu, const Launch&, const TopK<T>& args);
template <class T>
void top_k(Cuda, const Launch&, const TopK<T>& args);

/// dlogits[row, e] = dgate · p · (1 - p) at the chosen experts, 0 elsewhere (overwrite) or added there (accumulate).
template <class T>
struct TopKBackward {
  int64_t rows = 0, experts = 0, k = 0;
  const int32_t* expert = nullptr;  ///< (rows, K) ids
  const T* gate = nullptr;          ///< (rows, K)
  const T* dgate = nullptr;         ///< (rows, K)
  T* dlogits = nullptr;             ///< (rows, E)
  int64_t ld_dlogits = 0;
  Mode mode = Mode::overwrite;
};
template <class T>
void top_k_backward(Cpu, const Launch&, const TopKBackward<T>& args);
template <class T>
void top_k_backward(Cuda, const Launch&, const TopKBackward<T>& args);

/// Stable counting sort of the pairs by expert id: order, place, offsets, overwritten.
size_t sort_pairs_workspace_bytes(Cpu, int64_t pairs, int64_t experts);
size_t sort_pairs_workspace_bytes(Cuda, int64_t pairs, int64_t experts);
void sort_pairs(Cpu, const Launch&, int64_t pairs, int64_t experts, const int32_t* expert, int32_t* order,
                int32_t* place, int32_t* offsets);
void sort_pairs(Cuda, const Launch&, int64_t pairs, int64_t experts, const int32_t* expert, int32_t* order,
                int32_t* place, int32_t* offsets);

}  // namespace moeut::kernels
