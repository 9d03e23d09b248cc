#include "layers/forward_context.h"

#include "core/check.h"

namespace moeut {

ForwardContext ForwardContext::training(Tape& tape, uint64_t seed, uint64_t first_sample, int64_t sequences) {
  ForwardContext c(tape);
  c.is_training = true;
  c.regulariser_sequences = sequences;
  c.seed_ = seed;
  c.first_sample_ = first_sample;
  return c;
}

ForwardContext ForwardContext::training(Tape& tape, Tensor rng_state, int64_t sequences) {
  ForwardContext c = training(tape, 0, 0, sequences);
  c.rng_state_ = std::move(rng_state);
  return c;
}

ForwardContext ForwardContext::fork(Tape& on) const {
  ForwardContext c(on);
  c.is_training = is_training;
  c.regulariser_sequences = regulariser_sequences;
  c.record = record;
  c.replay = replay;
  c.seed_ = seed_;
  c.first_sample_ = first_sample_;
  c.next_site_ = next_site_;
  c.next_replay_ = next_replay_;
  c.rng_state_ = rng_state_;
  return c;
}

void ForwardContext::join(const ForwardContext& fork, std::span<const Variable> logits) {
  next_site_ = fork.next_site_;
  next_replay_ = fork.next_replay_;
  rng_state_ = fork.rng_state_;
  auto next = logits.begin();
  for (const RouterLogits& r : fork.routers) {
    for (size_t i = 0; i < r.logits.size(); ++i) log(r.name, r.heads, r.coefficient, *next++);
  }
}

void ForwardContext::begin_pass() {
  routers.clear();
  next_site_ = 0;
  next_replay_ = 0;
}

ops::DropoutSource ForwardContext::next_source(Device device) {
  if (!rng_state_.defined()) rng_state_ = Tensor::from<uint64_t>({seed_, first_sample_}, {2}, device);
  return {rng_state_, next_site_++};
}

void ForwardContext::log(const std::string& router, int64_t heads, double coefficient, const Variable& logits) {
  for (RouterLogits& r : routers) {
    if (r.name != router) continue;
    r.logits.push_back(logits);
    return;
  }
  routers.push_back({router, heads, coefficient, {logits}});
}

ops::Routing ForwardContext::route(const std::string& router, const Variable& logits, int64_t heads, int64_t k,
                                   double expert_dropout, double coefficient) {
  ops::RouteOptions options{.heads = heads, .k = k};
  if (is_training && expert_dropout > 0) {
    options.expert_dropout = expert_dropout;
    options.source = next_source(logits.device());
  }
  if (replay != nullptr) {
    require<ShapeError>(next_replay_ < replay->experts.size(),
                        "routing: the trace to replay ends after {} router calls", next_replay_);
    options.forced = replay->experts[next_replay_++].to(logits.device());
  }
  ops::Routing routing = ops::route(tape, logits, options);
  if (record != nullptr) record->experts.push_back(routing.expert.to(Device::cpu()));
  if (is_training) log(router, heads, coefficient, logits);
  return routing;
}

Variable ForwardContext::dropout(const Variable& x, double p) {
  return is_training && p > 0 ? ops::dropout(tape, x, p, next_source(x.device())) : x;
}

}  // namespace moeut
