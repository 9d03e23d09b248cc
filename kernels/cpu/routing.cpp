#include "kernels/routing.h"

#include <algorithm>
#include <vector>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/parallel.h"

namespace moeut::kernels {

namespace {

template <class T>
MOEUT_INLINE void sigmoid_body(const T* x, T* p, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = T(1) / (T(1) + fast_exp(-x[i]));
}
MOEUT_CLONES void sigmoid_row(const float* x, float* p, int64_t n) { sigmoid_body(x, p, n); }
MOEUT_CLONES void sigmoid_row(const double* x, double* p, int64_t n) { sigmoid_body(x, p, n); }

/// A candidate of the ranking: not excluded first, then larger p, then lower index.
template <class T>
struct Candidate {
  T p;
  int32_t index;
  bool excluded;
  bool before(const Candidate& other) const {
    if (excluded != other.excluded) return other.excluded;
    if (p != other.p) return p > other.p;
    return index < other.index;
  }
};

/// Keeps the best k in order by insertion: candidates come by rising index and most fail the first comparison.
template <class T>
void insert(std::vector<Candidate<T>>& best, int64_t k, const Candidate<T>& c) {
  if (static_cast<int64_t>(best.size()) == k) {
    if (!c.before(best.back())) return;
    best.pop_back();
  }
  auto at = best.end();
  while (at != best.begin() && c.before(*(at - 1))) --at;
  best.insert(at, c);
}

template <class T>
void rank_row(const TopK<T>& a, int64_t row, const T* p, std::vector<Candidate<T>>& best) {
  best.clear();
  for (int64_t e = 0; e < a.experts; ++e) {
    bool excluded = false;
    if (a.drop > 0) {
      const auto sequence = static_cast<uint64_t>(row / a.rows_per_sequence);
      const auto element = static_cast<uint64_t>(row % a.rows_per_sequence * a.experts + e);
      excluded = static_cast<double>(dropout_uniform(*a.rng, sequence, a.site, element)) < a.drop;
    }
    insert(best, a.k, {p[e], static_cast<int32_t>(e), excluded});
  }
}

}  // namespace

template <class T>
void top_k(Cpu, const Launch&, const TopK<T>& a) {
  parallel_blocks(a.rows, 32, [&](int64_t begin, int64_t end) {
    std::vector<T> p(static_cast<size_t>(a.experts));
    std::vector<Candidate<T>> best;
    best.reserve(static_cast<size_t>(a.k));
    for (int64_t row = begin; row < end; ++row) {
      const auto first_id = static_cast<int32_t>(row % a.heads * a.experts);
      sigmoid_row(a.logits + row * a.ld_logits, p.data(), a.experts);
      if (a.forced == nullptr) rank_row(a, row, p.data(), best);
      for (int64_t j = 0; j < a.k; ++j) {
        const int32_t expert = a.forced != nullptr ? a.forced[row * a.k + j] - first_id : best[static_cast<size_t>(j)].index;
        a.expert[row * a.k + j] = first_id + expert;
        a.gate[row * a.k + j] = p[static_cast<size_t>(expert)];
      }
    }
  });
}

template <class T>
void top_k_backward(Cpu, const Launch&, const TopKBackward<T>& a) {
  parallel_blocks(a.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      T* d = a.dlogits + row * a.ld_dlogits;
      if (a.mode == Mode::overwrite) std::fill_n(d, a.experts, T(0));
      for (int64_t pair = row * a.k; pair < (row + 1) * a.k; ++pair) {
        d[a.expert[pair] % a.experts] += a.dgate[pair] * a.gate[pair] * (T(1) - a.gate[pair]);
      }
    }
  });
}

void sort_pairs(Cpu, const Launch&, int64_t pairs, int64_t experts, const int32_t* expert, int32_t* order, int32_t* place, int32_t* offsets) {
  std::fill_n(offsets, experts + 1, 0);
  for (int64_t s = 0; s < pairs; ++s) ++offsets[expert[s] + 1];
  for (int64_t e = 0; e < experts; ++e) offsets[e + 1] += offsets[e];
  std::vector<int32_t> next(offsets, offsets + experts);
  for (int64_t s = 0; s < pairs; ++s) {
    const int32_t r = next[static_cast<size_t>(expert[s])]++;
    order[r] = static_cast<int32_t>(s);
    place[s] = r;
  }
}

template void top_k(Cpu, const Launch&, const TopK<float>&);
template void top_k(Cpu, const Launch&, const TopK<double>&);
template void top_k_backward(Cpu, const Launch&, const TopKBackward<float>&);
template void top_k_backward(Cpu, const Launch&, const TopKBackward<double>&);

}  // namespace moeut::kernels
