// fp16 steps in which the gradients of one rank alone overflow.
#pragma once

#include <string>

#include "trainer/ranks.h"

namespace moeut {

/// Three steps of a small model in fp16, of twelve micro-batches each, from the newest checkpoint in `folder` on, and a
/// checkpoint there. In steps 2, 3 and 5 one micro-batch's gradient of lm_head.bias is infinite: its loss is finite,
/// and no other rank has anything that is not. All ranks must leave out those steps, and no others, and have one state
/// after each. Collective; status 1 if it is not so.
int overflow(Ranks& ranks, const std::string& folder);

}  // namespace moeut
