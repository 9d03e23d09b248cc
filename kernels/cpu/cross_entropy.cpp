#include "kernels/cross_entropy.h"

#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/softmax.h"

namespace moeut::kernels {

template <class T>
void cross_entropy_forward(Cpu, const Launch&, const CrossEntropyForward<T>& a) {
  parallel_blocks(a.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<T> scratch(static_cast<size_t>(a.vocabulary));
    for (int64_t i = begin; i < end; ++i) {
      const T* x = a.logits + i * a.ld_logits;
      a.lse[i] = log_sum_exp(x, a.vocabulary, scratch.data());
      a.row_loss[i] = a.target[i] < 0 ? T(0) : a.lse[i] - x[a.target[i]];
    }
  });
  double sum = 0;
  for (int64_t i = 0; i < a.rows; ++i) sum += static_cast<double>(a.row_loss[i]);
  *a.loss = static_cast<T>(sum * a.scale);
}

template <class T>
void cross_entropy_backward(Cpu, const Launch&, const CrossEntropyBackward<T>& a) {
  const T factor = static_cast<T>(static_cast<double>(*a.dloss) * a.scale);
  parallel_blocks(a.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<T> p(static_cast<size_t>(a.vocabulary));
    for (int64_t i = begin; i < end; ++i) {
      T* d = a.dlogits + i * a.ld_dlogits;
      const T scale = a.target[i] < 0 ? T(0) : factor;
      exp_shifted(a.logits + i * a.ld_logits, p.data(), a.vocabulary, a.lse[i]);
      if (a.target[i] >= 0) p[static_cast<size_t>(a.target[i])] -= T(1);
      if (a.mode == Mode::accumulate) {
        for (int64_t v = 0; v < a.vocabulary; ++v) d[v] += scale * p[static_cast<size_t>(v)];
      } else {
        for (int64_t v = 0; v < a.vocabulary; ++v) d[v] = scale * p[static_cast<size_t>(v)];
      }
    }
  });
}

template void cross_entropy_forward(Cpu, const Launch&, const CrossEntropyForward<float>&);
template void cross_entropy_forward(Cpu, const Launch&, const CrossEntropyForward<double>&);
template void cross_entropy_backward(Cpu, const Launch&, const CrossEntropyBackward<float>&);
template void cross_entropy_backward(Cpu, const Launch&, const CrossEntropyBackward<double>&);

}  // namespace moeut::kernels
