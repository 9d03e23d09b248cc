#include "kernels/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace moeut::kernels {

namespace {

struct Candidate {
  double logit;
  double weight;  ///< exp((logit - the largest) / temperature)
  int32_t token;
};

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

template <class T>
double rank_of(T logit) {
  return std::isnan(logit) ? -std::numeric_limits<double>::infinity() : static_cast<double>(logit);
}

template <class T>
int32_t argmax(const T* logits, int64_t n) {
  int64_t best = 0;
  for (int64_t j = 1; j < n; ++j) best = rank_of(logits[j]) > rank_of(logits[best]) ? j : best;
  return static_cast<int32_t>(best);
}

/// The candidates that may be drawn, ranked, with their weights.
template <class T>
std::span<Candidate> ranked(const Sample<T>& a, Candidate* scratch) {
  for (int64_t j = 0; j < a.vocabulary; ++j) scratch[j] = {rank_of(a.logits[j]), 0, static_cast<int32_t>(j)};
  const int64_t kept = a.top_k > 0 ? std::min(a.top_k, a.vocabulary) : a.vocabulary;
  std::partial_sort(scratch, scratch + kept, scratch + a.vocabulary, ranks_before);
  const double largest = scratch[0].logit;
  for (int64_t j = 0; j < kept; ++j) {
    scratch[j].weight = scratch[j].logit == largest ? 1 : std::exp((scratch[j].logit - largest) / a.temperature);
  }
  return {scratch, static_cast<size_t>(kept)};
}

double total_weight(std::span<const Candidate> candidates) {
  double total = 0;
  for (const Candidate& c : candidates) total += c.weight;
  return total;
}

/// The shortest beginning that holds `share` of the weight.
std::span<Candidate> nucleus(std::span<Candidate> candidates, double share) {
  if (share >= 1) return candidates;
  const double enough = share * total_weight(candidates);
  double sum = 0;
  size_t n = 0;
  while (n < candidates.size() && (n == 0 || sum < enough)) sum += candidates[n++].weight;
  return candidates.first(n);
}

int32_t draw(std::span<const Candidate> candidates, double uniform) {
  const double point = uniform * total_weight(candidates);
  double sum = 0;
  for (const Candidate& c : candidates) {
    sum += c.weight;
    if (sum > point) return c.token;
  }
  return candidates.front()
      .token;  // not reached for uniform < 1; weights that are all zero cannot be, the first one is 1
}

}  // namespace

template <class T>
size_t sample_workspace_bytes(Cpu, int64_t vocabulary) {
  return static_cast<size_t>(vocabulary) * sizeof(Candidate);
}

template <class T>
void sample(Cpu, const Launch& launch, const Sample<T>& args) {
  if (args.temperature == 0 ||
      rank_of(args.logits[argmax(args.logits, args.vocabulary)]) == -std::numeric_limits<double>::infinity()) {
    *args.token = argmax(args.logits, args.vocabulary);
    return;
  }
  const auto candidates = nucleus(ranked(args, static_cast<Candidate*>(launch.workspace)), args.top_p);
  *args.token = draw(candidates, args.uniform);
}

template size_t sample_workspace_bytes<float>(Cpu, int64_t);
template size_t sample_workspace_bytes<double>(Cpu, int64_t);
template void sample<float>(Cpu, const Launch&, const Sample<float>&);
template void sample<double>(Cpu, const Launch&, const Sample<double>&);

}  // namespace moeut::kernels
