#include "kernels/entropy.h"

#include <limits>
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/softmax.h"

namespace moeut::kernels {

namespace {

/// log Σ exp of a stream of numbers, per expert, rescaled as the largest grows.
template <class T>
class LogSums {
 public:
  explicit LogSums(int64_t experts) : largest_(static_cast<size_t>(experts), -std::numeric_limits<double>::infinity()), sum_(static_cast<size_t>(experts)) {}
  void add(int64_t e, double value) {
    double& top = largest_[static_cast<size_t>(e)];
    double& sum = sum_[static_cast<size_t>(e)];
    if (value > top) {
      sum = sum * std::exp(top - value) + 1;
      top = value;
    } else {
      sum += fast_exp(value - top);
    }
  }
  double log_sum(int64_t e) const { return largest_[static_cast<size_t>(e)] + std::log(sum_[static_cast<size_t>(e)]); }

 private:
  std::vector<double> largest_, sum_;
};

}  // namespace

template <class T>
size_t entropy_workspace_bytes(Cpu, int64_t batch, int64_t, int64_t heads, int64_t) {
  return static_cast<size_t>(batch * heads) * sizeof(double);  // one partial sum a (sequence, head)
}

template <class T>
void entropy_forward(Cpu, const Launch& launch, const EntropyForward<T>& a) {
  auto* partials = static_cast<double*>(launch.workspace);
  parallel_pieces(a.batch * a.heads, [&](int64_t piece, int) {
    const int64_t b = piece / a.heads, h = piece % a.heads;
    std::vector<T> scratch(static_cast<size_t>(a.experts));
    LogSums<T> sums(a.experts);
    for (const T* logits : a.logits) {
      for (int64_t t = 0; t < a.time; ++t) {
        const T* row = logits + ((b * a.time + t) * a.heads + h) * a.experts;
        const T lse = log_sum_exp(row, a.experts, scratch.data());
        for (int64_t e = 0; e < a.experts; ++e) sums.add(e, static_cast<double>(row[e] - lse));
      }
    }
    const double log_count = std::log(static_cast<double>(a.time) * static_cast<double>(a.logits.size()));
    double reg = 0;
    for (int64_t e = 0; e < a.experts; ++e) {
      const double m = sums.log_sum(e) - log_count;
      a.log_mean[piece * a.experts + e] = static_cast<T>(m);
      reg += m * std::exp(m);
    }
    partials[piece] = reg;
  });
  double total = 0;
  for (int64_t i = 0; i < a.batch * a.heads; ++i) total += partials[i];
  *a.reg = static_cast<T>(total * a.scale / static_cast<double>(a.heads));
}

template <class T>
void entropy_backward(Cpu, const Launch&, const EntropyBackward<T>& a) {
  const double factor = static_cast<double>(*a.dreg) * a.scale / (static_cast<double>(a.heads) * static_cast<double>(a.repeats) * static_cast<double>(a.time));
  parallel_blocks(a.batch * a.time * a.heads, 64, [&](int64_t begin, int64_t end) {
    std::vector<T> p(static_cast<size_t>(a.experts));
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / (a.time * a.heads), h = row % a.heads;
      const T* x = a.logits + row * a.experts;
      const T* m = a.log_mean + (b * a.heads + h) * a.experts;
      T* d = a.dlogits + row * a.experts;
      const T lse = log_sum_exp(x, a.experts, p.data());
      exp_shifted(x, p.data(), a.experts, lse);
      double mean = 0;
      for (int64_t e = 0; e < a.experts; ++e) mean += factor * (1 + static_cast<double>(m[e])) * static_cast<double>(p[static_cast<size_t>(e)]);
      for (int64_t e = 0; e < a.experts; ++e) {
        const T value = p[static_cast<size_t>(e)] * static_cast<T>(factor * (1 + static_cast<double>(m[e])) - mean);
        d[e] = a.mode == Mode::accumulate ? d[e] + value : value;
      }
    }
  });
}

#define MOEUT_INSTANTIATE(T)                                                                \
  template size_t entropy_workspace_bytes<T>(Cpu, int64_t, int64_t, int64_t, int64_t);      \
  template void entropy_forward(Cpu, const Launch&, const EntropyForward<T>&);              \
  template void entropy_backward(Cpu, const Launch&, const EntropyBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
