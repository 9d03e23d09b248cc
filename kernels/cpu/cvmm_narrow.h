// Row operands of CVMM in a narrow number format, as floats.
#pragma once

#include "kernels/cpu/narrow.h"
#include "kernels/cvmm.h"

namespace moeut::kernels {

/// The rows of an operand that has no gate.
template <class T>
PairRows<float> widen(Floats& f, const PairRows<T>& x, const Route& route, int64_t width) {
  const int64_t rows = x.divisor > 0 ? route.pairs / x.divisor : route.pairs;
  return {f.in(x.data, extent(rows, width, x.ld)), x.ld, x.divisor, x.gate};
}

/// The rows of an operand in sorted order, each times its gate and rounded again: what is multiplied.
template <class T>
PairRows<float> widen_gated(Floats& f, const PairRows<T>& x, const Route& route, int64_t width) {
  if (x.gate == nullptr) return widen(f, x, route, width);
  Tensor product = Tensor::empty({route.pairs, width}, dtype_of<T>);
  T* to = product.data<T>();
  parallel_blocks(route.pairs, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t pair = route.order[r];
      const T* from = x.data + (x.divisor > 0 ? pair / x.divisor : r) * x.ld;
      for (int64_t j = 0; j < width; ++j) to[r * width + j] = T(x.gate[pair] * float(from[j]));
    }
  });
  return {f.in(to, route.pairs * width), width, 0, nullptr};
}

}  // namespace moeut::kernels
