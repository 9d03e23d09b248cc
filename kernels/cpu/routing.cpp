#include "kernels/routing.h"

#include <algorithm>
#include <limits>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/sigmoid.h"
#include "kernels/cpu/simd.h"
#include "kernels/cpu/uniforms.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kRows = 32;                             // rows a piece
constexpr int64_t kStretch = DropoutUniforms::kElements;  // experts ranked at a time
constexpr int kNanRank = 2;  // a NaN ranks before every probability, so that it shows in the loss

/// The best so far of one row, best first, kept in the row's own outputs.
template <class T>
struct Chosen {
  int32_t* expert;
  T* gate;
  int64_t wanted;
  int64_t count = 0;
  int64_t settled = 0;  ///< places before it are taken whatever comes

  /// False if there is no place for it. On equal rank the one that came first stays ahead.
  MOEUT_INLINE bool offer(int32_t id, T rank) {
    if (count == wanted && (settled == wanted || !(rank > gate[count - 1]))) return false;
    int64_t place = count < wanted ? count++ : count - 1;
    for (; place > settled && rank > gate[place - 1]; --place) {
      gate[place] = gate[place - 1];
      expert[place] = expert[place - 1];
    }
    gate[place] = rank;
    expert[place] = id;
    return true;
  }
};

/// Ranks of a stretch of experts, kGone for those that may not be chosen (now, or again), and the best of each group of
/// 16: finding the next best looks at the groups, then into one of them, without a branch that depends on the numbers.
template <class T>
struct Ranks {
  static constexpr T kGone = T(-1);
  static constexpr int64_t kGroup = 16;
  T rank[kStretch];
  T top[kStretch / kGroup];
  int64_t groups = 0;

  MOEUT_INLINE void fill(const T* logits, int64_t n) {
    groups = (n + kGroup - 1) / kGroup;
#pragma omp simd
    for (int64_t e = 0; e < n; ++e) {
      const T p = sigmoid(logits[e]);
      rank[e] = p == p ? p : T(kNanRank);
    }
    for (int64_t e = n; e < groups * kGroup; ++e) rank[e] = kGone;
  }

  /// Keeps the excluded ones, or the others.
  MOEUT_INLINE void keep(const float* uniforms, int64_t n, float threshold, bool excluded) {
    for (int64_t e = 0; e < n; ++e) rank[e] = (uniforms[e] < threshold) == excluded ? rank[e] : kGone;
  }

  MOEUT_INLINE static T best_of_group(const T* r) {
    T four[4] = {r[0], r[1], r[2], r[3]};
    for (int64_t e = 4; e < kGroup; e += 4) {
      for (int64_t l = 0; l < 4; ++l) four[l] = r[e + l] > four[l] ? r[e + l] : four[l];
    }
    const T a = four[0] > four[1] ? four[0] : four[1], b = four[2] > four[3] ? four[2] : four[3];
    return a > b ? a : b;
  }

  /// Offers the best, the second best and so on, until one finds no place.
  MOEUT_INLINE void offer_to(Chosen<T>& chosen, int32_t first_id) {
    for (int64_t g = 0; g < groups; ++g) top[g] = best_of_group(rank + g * kGroup);
    for (;;) {
      T best = top[0];
      int64_t group = 0;
      for (int64_t g = 1; g < groups; ++g) {
        const bool better = top[g] > best;
        best = better ? top[g] : best;
        group = better ? g : group;
      }
      if (best == kGone) return;
      int64_t at = 0;
      for (int64_t e = kGroup - 1; e >= 0; --e) at = rank[group * kGroup + e] == best ? e : at;
      at += group * kGroup;
      if (!chosen.offer(first_id + static_cast<int32_t>(at), best)) return;
      rank[at] = kGone;
      top[group] = best_of_group(rank + group * kGroup);
    }
  }
};

/// Offers the experts of one row that are excluded, or those that are not.
template <class T>
MOEUT_INLINE void offer_row(const TopK<T>& a, int64_t row, bool excluded, Chosen<T>& chosen) {
  const T* logits = a.logits + row * a.ld_logits;
  const auto first_id = static_cast<int32_t>(row % a.heads * a.experts);
  Ranks<T> ranks;
  for (int64_t begin = 0; begin < a.experts; begin += kStretch) {
    const int64_t n = std::min(kStretch, a.experts - begin);
    ranks.fill(logits + begin, n);
    if (a.drop > 0) {
      DropoutUniforms uniforms;
      const auto element = static_cast<uint64_t>(row % a.rows_per_sequence * a.experts + begin);
      const float* u = uniforms.fill(*a.rng, static_cast<uint64_t>(row / a.rows_per_sequence), a.site, element, n);
      ranks.keep(u, n, dropout_threshold(a.drop), excluded);
    }
    ranks.offer_to(chosen, first_id + static_cast<int32_t>(begin));
  }
}

template <class T>
MOEUT_INLINE void choose_row(const TopK<T>& a, int64_t row) {
  Chosen<T> chosen{.expert = a.expert + row * a.k, .gate = a.gate + row * a.k, .wanted = a.k};
  offer_row(a, row, false, chosen);
  if (chosen.count < a.k) {  // dropout left fewer than k
    chosen.settled = chosen.count;
    offer_row(a, row, true, chosen);
  }
  for (int64_t j = 0; j < a.k; ++j) {
    if (chosen.gate[j] == T(kNanRank)) chosen.gate[j] = std::numeric_limits<T>::quiet_NaN();
  }
}

template <class T>
MOEUT_INLINE void take_forced_row(const TopK<T>& a, int64_t row) {
  const T* logits = a.logits + row * a.ld_logits;
  for (int64_t s = row * a.k; s < (row + 1) * a.k; ++s) {
    a.expert[s] = a.forced[s];
    a.gate[s] = sigmoid(logits[a.forced[s] % a.experts]);
  }
}

template <class T>
MOEUT_INLINE void choose_rows_body(const TopK<T>& a, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) a.forced != nullptr ? take_forced_row(a, row) : choose_row(a, row);
}
MOEUT_CLONES void choose_rows(const TopK<float>& a, int64_t begin, int64_t end) {
  choose_rows_body(a, begin, end);
}
MOEUT_CLONES void choose_rows(const TopK<double>& a, int64_t begin, int64_t end) {
  choose_rows_body(a, begin, end);
}

}  // namespace

template <class T>
void top_k(Cpu, const Launch&, const TopK<T>& args) {
  parallel_blocks(args.rows, kRows, [&](int64_t begin, int64_t end) { choose_rows(args, begin, end); });
}

template <class T>
void top_k_backward(Cpu, const Launch&, const TopKBackward<T>& args) {
  parallel_blocks(args.rows, kRows, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      T* dlogits = args.dlogits + row * args.ld_dlogits;
      if (args.mode == Mode::overwrite) std::fill_n(dlogits, args.experts, T(0));
      for (int64_t s = row * args.k; s < (row + 1) * args.k; ++s) {
        const T p = args.gate[s];
        dlogits[args.expert[s] % args.experts] += args.dgate[s] * p * (T(1) - p);
      }
    }
  });
}

size_t sort_pairs_workspace_bytes(Cpu, int64_t, int64_t) {
  return 0;
}

void sort_pairs(Cpu, const Launch&, int64_t pairs, int64_t experts, const int32_t* expert, int32_t* order,
                int32_t* place, int32_t* offsets) {
  std::fill_n(offsets, experts + 1, 0);
  for (int64_t s = 0; s < pairs; ++s) ++offsets[expert[s] + 1];
  for (int64_t e = 0; e < experts; ++e) offsets[e + 1] += offsets[e];
  for (int64_t s = 0; s < pairs; ++s) {  // offsets[e] is the next free place of e
    const int32_t r = offsets[expert[s]]++;
    order[r] = static_cast<int32_t>(s);
    place[s] = r;
  }
  for (int64_t e = experts; e > 0; --e) offsets[e] = offsets[e - 1];  // each ran on to where the next one began
  offsets[0] = 0;
}

template void top_k<float>(Cpu, const Launch&, const TopK<float>&);
template void top_k<double>(Cpu, const Launch&, const TopK<double>&);
template void top_k_backward<float>(Cpu, const Launch&, const TopKBackward<float>&);
template void top_k_backward<double>(Cpu, const Launch&, const TopKBackward<double>&);

}  // namespace moeut::kernels
