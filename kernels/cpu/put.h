// Writing an output under its mode, chosen at compile time so that loops stay branch-free.
#pragma once

#include "kernels/cpu/simd.h"

namespace moeut::kernels {

/// y = value, or y += value.
template <bool kAdd, class T>
MOEUT_INLINE void put(T& y, T value) {
  if constexpr (kAdd) {
    y += value;
  } else {
    y = value;
  }
}

}  // namespace moeut::kernels
