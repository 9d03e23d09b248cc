// Choosing the next token from one row of logits.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dtype.h"
#include "core/launch.h"

namespace moeut::kernels {

/// Tokens are ranked by logit, then by lower id. Of that ranking
///   1. the first top_k stay (0: all);
///   2. of those, the shortest beginning whose probabilities softmax(logits / temperature) sum to at least top_p (1:
///   all); at least one;
///   3. the token is the first whose running sum of the renormalised probabilities, in the order of the ranking,
///   exceeds `uniform`.
/// Temperature 0 takes the first of the ranking. A NaN logit counts as -inf, and -inf is never drawn unless nothing
/// else is there. The same arguments always give the same token.   logits: (vocabulary)   token: one id, overwritten.
/// Launcher's duty: vocabulary >= 1, temperature >= 0, 0 <= top_k, 0 < top_p <= 1, 0 <= uniform < 1.
template <class T>
struct Sample {
  int64_t vocabulary = 0;
  const T* logits = nullptr;
  double temperature = 1;
  int64_t top_k = 0;
  double top_p = 1;
  double uniform = 0;
  int32_t* token = nullptr;
};
template <class T>
size_t sample_workspace_bytes(Cpu, int64_t vocabulary);
template <class T>
void sample(Cpu, const Launch&, const Sample<T>& args);

}  // namespace moeut::kernels
