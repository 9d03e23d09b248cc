// What a forward pass carries along: tape, randomness, mode and the routers' logits. Passed explicitly; modules keep no
// lists of their own.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "autograd/ops/route.h"
#include "autograd/tape.h"

namespace moeut {

/// The experts chosen by every router call of a forward pass, in order.
struct RoutingTrace {
  std::vector<Tensor> experts;
};

/// One router's logits over the repeats that share it.
struct RouterLogits {
  std::string name;  ///< of the router's parameter
  int64_t heads = 1;
  double coefficient = 0;  ///< of its entropy regulariser
  std::vector<Variable> logits;
};

class ForwardContext {
 public:
  /// Evaluation: nothing drops out and there is no regulariser.
  explicit ForwardContext(Tape& on) : tape(on) {}
  /// Training. Dropout of sequence b depends on (seed, first_sample + b) alone, never on how the batch was cut.
  /// `sequences` is what the regulariser's sum over sequences is divided by; 0: this batch's number.
  static ForwardContext training(Tape& tape, uint64_t seed, uint64_t first_sample, int64_t sequences = 0);
  /// The same with seed and first_sample, an RngState (u64, two elements), on the model's device already.
  static ForwardContext training(Tape& tape, Tensor rng_state, int64_t sequences);

  Tape& tape;
  bool is_training = false;
  int64_t regulariser_sequences = 0;
  RoutingTrace* record = nullptr;        ///< filled with the chosen experts, if set
  const RoutingTrace* replay = nullptr;  ///< experts to take instead of the top-k, if set; read again on recompute
  /// Save only each layer's input and router logits, and run the layer again in the backward pass. Layers with a cache
  /// are saved whole.
  bool recompute = false;
  std::vector<RouterLogits> routers;  ///< of the pass under way

  /// Called by the body before its first layer.
  void begin_pass();
  /// Top-k with expert dropout in training; logs the logits for the regulariser.
  ops::Routing route(const std::string& router, const Variable& logits, int64_t heads, int64_t k, double expert_dropout,
                     double coefficient);
  Variable dropout(const Variable& x, double p);

  /// The pass from this place on, on another tape: what runs there draws the random numbers and takes the replayed
  /// experts that would follow here. Its log of routers is empty.
  ForwardContext fork(Tape& on) const;
  /// Goes on from the place that a fork has reached. `logits` are logged for those in fork.routers, one for one.
  void join(const ForwardContext& fork, std::span<const Variable> logits);

 private:
  ops::DropoutSource next_source(Device device);
  void log(const std::string& router, int64_t heads, double coefficient, const Variable& logits);

  uint64_t seed_ = 0, first_sample_ = 0;
  uint64_t next_site_ = 0;
  size_t next_replay_ = 0;
  Tensor rng_state_;
};

}  // namespace moeut
