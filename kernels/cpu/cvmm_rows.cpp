// What CVMM does row by row on the CPU: the sum over a token's pairs, and the gradients of gates and hidden layer.
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_ops.h"
#include "kernels/cvmm.h"

namespace moeut::kernels {

namespace {

constexpr int64_t kBlockTokens = 16, kBlockPairs = 64;

template <class T>
void combine_token(const CvmmCombine<T>& c, int64_t token) {
  T* out = c.out + token * c.ldout;
  for (int64_t pair = token * c.group; pair < (token + 1) * c.group; ++pair) {
    const T gate = c.gate == nullptr ? T(1) : c.gate[pair];
    const T* y = c.y + c.route.place[pair] * c.ldy;
    if (c.mode == Mode::overwrite && pair == token * c.group) {
      scale_row(y, out, c.width, gate);
    } else {
      add_scaled_row(y, out, c.width, gate);
    }
  }
}

}  // namespace

template <class T>
void cvmm_combine(Cpu, const Launch&, const CvmmCombine<T>& c) {
  parallel_blocks(c.route.pairs / c.group, kBlockTokens, [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) combine_token(c, token);
  });
}

template <class T>
void cvmm_gate_gradient(Cpu, const Launch&, const CvmmGateGradient<T>& g) {
  parallel_blocks(g.route.pairs, kBlockPairs, [&](int64_t begin, int64_t end) {
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t place = g.route.place[pair];
      const T* x = g.x.data + (g.x.divisor == 0 ? place : pair / g.x.divisor) * g.x.ld;
      g.dgate[pair] = dot_row(g.y + place * g.ldy, x, g.width);
    }
  });
}

template <class T>
void cvmm_hidden_backward(Cpu, const Launch&, const CvmmHiddenBackward<T>& b) {
  parallel_blocks(b.route.pairs, kBlockPairs, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t pair = b.route.order[r];
      const T* h = b.h + r * b.width;
      T* da = b.da + r * b.width;
      b.dgate[pair] = dot_row(da, h, b.width);
      relu_backward_row(h, da, b.width, b.gate[pair]);
    }
  });
}

#define MOEUT_INSTANTIATE(T)                                                        \
  template void cvmm_combine(Cpu, const Launch&, const CvmmCombine<T>&);            \
  template void cvmm_gate_gradient(Cpu, const Launch&, const CvmmGateGradient<T>&); \
  template void cvmm_hidden_backward(Cpu, const Launch&, const CvmmHiddenBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
#undef MOEUT_INSTANTIATE

}  // namespace moeut::kernels
