// Number formats that are stored in fewer bits than arithmetic uses: a kernel reads them as float, computes in float,
// and rounds once to nearest, ties to even, when it writes.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define MOEUT_BOTH_SIDES __host__ __device__
#else
#define MOEUT_BOTH_SIDES
#endif

namespace moeut {

namespace detail {

MOEUT_BOTH_SIDES inline uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}
MOEUT_BOTH_SIDES inline float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/// The upper 32 - `dropped` bits of a float, rounded; NaN stays NaN.
MOEUT_BOTH_SIDES inline uint32_t rounded_bits(float x, int dropped) {
  const uint32_t bits = float_bits(x), half = uint32_t{1} << (dropped - 1);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (bits | 0x00400000u) >> dropped;
  return (bits + half - 1 + (bits >> dropped & 1u)) >> dropped;
}

/// IEEE half of a float: overflow gives infinity, small numbers become subnormal.
inline uint16_t half_bits(float x) {
  const uint32_t bits = float_bits(x), sign = bits >> 16 & 0x8000u;
  const float magnitude = float_of(bits & 0x7fffffffu);
  if (magnitude != magnitude) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 65520.0f) return static_cast<uint16_t>(sign | 0x7c00u);  // halfway from the largest half to 65536
  // Below 2^-14 the spacing is 2^-24: adding 0.5 leaves that many bits of a float, rounded.
  if (magnitude < 6.103515625e-05f) return static_cast<uint16_t>(sign | (float_bits(magnitude + 0.5f) - 0x3f000000u));
  return static_cast<uint16_t>(sign | (rounded_bits(magnitude, 13) - (uint32_t{112} << 10)));
}
inline float float_of_half(uint16_t half) {
  const uint32_t sign = (half & 0x8000u) << 16, exponent = half >> 10 & 0x1fu, mantissa = half & 0x3ffu;
  if (exponent == 0x1fu) return float_of(sign | 0x7f800000u | mantissa << 13);
  if (exponent == 0) return (sign != 0 ? -1.0f : 1.0f) * static_cast<float>(mantissa) * 5.9604644775390625e-08f;
  return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
}

}  // namespace detail

/// 8 bits of exponent, 7 of fraction.
struct BFloat16 {
  uint16_t bits;

  BFloat16() = default;
  MOEUT_BOTH_SIDES explicit BFloat16(float x) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
    bits = static_cast<uint16_t>(detail::rounded_bits(x, 16));
#endif
  }
  MOEUT_BOTH_SIDES operator float() const {
    const uint32_t wide = bits;
    return detail::float_of(wide << 16);
  }
};

/// IEEE binary16: 5 bits of exponent, 10 of fraction, at most 65504.
struct Float16 {
  uint16_t bits;

  Float16() = default;
  MOEUT_BOTH_SIDES explicit Float16(float x) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
    bits = detail::half_bits(x);
#endif
  }
  MOEUT_BOTH_SIDES operator float() const {
#if defined(__CUDA_ARCH__)
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
#else
    return detail::float_of_half(bits);
#endif
  }
};

/// A float with 10 bits of fraction: what tensor cores read of a float.
struct TFloat32 {
  float value;

  TFloat32() = default;
  MOEUT_BOTH_SIDES explicit TFloat32(float x) : value(detail::float_of(detail::rounded_bits(x, 13) << 13)) {}
  MOEUT_BOTH_SIDES operator float() const { return value; }
};

namespace detail {
template <class T>
struct WideOf {
  using type = T;
};
template <>
struct WideOf<BFloat16> {
  using type = float;
};
template <>
struct WideOf<Float16> {
  using type = float;
};
template <>
struct WideOf<TFloat32> {
  using type = float;
};
}  // namespace detail

/// The type in which values stored as T are computed, summed and, where it matters, kept: float for the formats above,
/// T itself otherwise.
template <class T>
using Wide = typename detail::WideOf<T>::type;

/// True for the formats above.
template <class T>
inline constexpr bool kIsNarrow = false;
template <>
inline constexpr bool kIsNarrow<BFloat16> = true;
template <>
inline constexpr bool kIsNarrow<Float16> = true;
template <>
inline constexpr bool kIsNarrow<TFloat32> = true;

}  // namespace moeut
