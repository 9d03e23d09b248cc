// The output gate of dense attention (att_n_experts = 1).
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// y[…, h, :] = sigmoid(logit[…, h]) · x[…, h, :].   x, y: (…, H·P)   logit: (…, H).
Variable head_gate(Tape& tape, const Variable& x, const Variable& logit);

}  // namespace moeut::ops
