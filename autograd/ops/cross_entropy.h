// Cross-entropy of logits against target ids.
#pragma once

#include "autograd/tape.h"

namespace moeut::ops {

/// loss: one element, scale · Σ over targets of -log softmax(logits)[target]; row_loss (rows): the unscaled terms.
struct CrossEntropy {
  Variable loss;
  Tensor row_loss;
};

/// logits: (…, V)   target: int32 of the leading shape; below 0: ignored. Throws ShapeError if sizes disagree or a
/// target is >= V. scale is 1 / (number of target tokens of the whole batch), so that micro-batches and ranks simply
/// add up.
CrossEntropy cross_entropy(Tape& tape, const Variable& logits, const Tensor& target, double scale);

/// Throws, naming `op`, unless `target` fits `rows` rows of a vocabulary on `device`.
void check_targets(const char* op, const Tensor& target, int64_t rows, int64_t vocabulary, Device device);

}  // namespace moeut::ops
