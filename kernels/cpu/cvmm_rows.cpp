// What CVMM does row by row on the CPU: the sum over a token's pairs, and the gradients of gates and hidden layer.
#include "kernels/cpu/cvmm_narrow.h"
#include "kernels/cpu/narrow.h"
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

template <class T, class Out>
void cvmm_combine(Cpu tag, const Launch& launch, const CvmmCombine<T, Out>& c) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t rows = c.route.pairs / c.group;
    cvmm_combine<float>(
        tag, launch,
        {.route = c.route,
         .group = c.group,
         .width = c.width,
         .y = f.in(c.y, extent(c.route.pairs, c.width, c.ldy)),
         .ldy = c.ldy,
         .gate = c.gate,
         .out = f.out(c.out, extent(rows, c.width, c.ldout), c.mode == Mode::accumulate || c.ldout != c.width),
         .ldout = c.ldout,
         .mode = c.mode});
  } else {
    parallel_blocks(c.route.pairs / c.group, kBlockTokens, [&](int64_t begin, int64_t end) {
      for (int64_t token = begin; token < end; ++token) combine_token(c, token);
    });
  }
}

template <class T>
void cvmm_gate_gradient(Cpu tag, const Launch& launch, const CvmmGateGradient<T>& g) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    cvmm_gate_gradient<float>(tag, launch,
                              {.route = g.route,
                               .width = g.width,
                               .y = f.in(g.y, extent(g.route.pairs, g.width, g.ldy)),
                               .ldy = g.ldy,
                               .x = widen(f, g.x, g.route, g.width),
                               .dgate = g.dgate});
  } else {
    parallel_blocks(g.route.pairs, kBlockPairs, [&](int64_t begin, int64_t end) {
      for (int64_t pair = begin; pair < end; ++pair) {
        const int64_t place = g.route.place[pair];
        const T* x = g.x.data + (g.x.divisor == 0 ? place : pair / g.x.divisor) * g.x.ld;
        g.dgate[pair] = dot_row(g.y + place * g.ldy, x, g.width);
      }
    });
  }
}

template <class T>
void cvmm_hidden_backward(Cpu tag, const Launch& launch, const CvmmHiddenBackward<T>& b) {
  if constexpr (kIsNarrow<T>) {
    Floats f;
    const int64_t n = b.route.pairs * b.width;
    cvmm_hidden_backward<float>(tag, launch,
                                {.route = b.route,
                                 .width = b.width,
                                 .h = f.out(b.h, n, true),
                                 .gate = b.gate,
                                 .da = f.out(b.da, n, true),
                                 .dgate = b.dgate});
  } else {
    parallel_blocks(b.route.pairs, kBlockPairs, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int64_t pair = b.route.order[r];
        T* h = b.h + r * b.width;
        T* da = b.da + r * b.width;
        b.dgate[pair] = dot_row(da, h, b.width);
        relu_backward_row(h, da, b.width, b.gate[pair]);
        for (int64_t j = 0; j < b.width; ++j) h[j] *= b.gate[pair];
      }
    });
  }
}

#define MOEUT_INSTANTIATE(T)                                                        \
  template void cvmm_combine<T>(Cpu, const Launch&, const CvmmCombine<T>&);         \
  template void cvmm_gate_gradient(Cpu, const Launch&, const CvmmGateGradient<T>&); \
  template void cvmm_hidden_backward(Cpu, const Launch&, const CvmmHiddenBackward<T>&);
MOEUT_INSTANTIATE(float)
MOEUT_INSTANTIATE(double)
MOEUT_INSTANTIATE(TFloat32)
MOEUT_INSTANTIATE(BFloat16)
MOEUT_INSTANTIATE(Float16)
#undef MOEUT_INSTANTIATE

template void cvmm_combine<TFloat32, float>(Cpu, const Launch&, const CvmmCombine<TFloat32, float>&);
template void cvmm_combine<BFloat16, float>(Cpu, const Launch&, const CvmmCombine<BFloat16, float>&);
template void cvmm_combine<Float16, float>(Cpu, const Launch&, const CvmmCombine<Float16, float>&);

}  // namespace moeut::kernels
