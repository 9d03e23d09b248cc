// A vectorisable exponential: no branch that a compiler may not remove, so that a loop over it becomes SIMD without
// relaxed floating point.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/cpu/simd.h"

namespace moeut::kernels {

namespace exp_detail {

/// `bits` where neither condition holds, 0 where x is `too_low`, `infinity` where it is `too_high`. By masks and not by
/// ?:, after which the compiler would move the polynomial into one arm and then find control flow in the loop.
template <class Bits>
MOEUT_INLINE Bits saturate(Bits bits, bool too_low, bool too_high, Bits infinity) {
  const Bits low = Bits(0) - Bits(too_low), high = Bits(0) - Bits(too_high);
  return (bits & ~(low | high)) | (high & infinity);
}

}  // namespace exp_detail

/// e^x within 2 ulp; 0 for x <= -86.9 (where e^x is about to leave the normal numbers), infinity where it overflows,
/// NaN for NaN. x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial (next term: 5e-9), 2^n by the
/// exponent bits.
MOEUT_INLINE float fast_exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 · 2^23: the low bits of a sum with it are the rounded integer
  const float shifted = x * 1.44269504088896341f + kRound;
  const float whole = shifted - kRound;
  const float r = (x - whole * 0.693145751953125f) - whole * 1.42860682030941723e-6f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  // n is within [-125, 128] wherever the result counts; 2^128 has no float of its own: 2^(n-1), then twice.
  const uint32_t n = std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(kRound);
  const float scaled = p * std::bit_cast<float>((n + 126) << 23) * 2.0f;
  return std::bit_cast<float>(
      exp_detail::saturate<uint32_t>(std::bit_cast<uint32_t>(scaled), x <= -86.9f, x > 88.8f, 0x7f800000u));
}

/// The same in float64; 0 for x <= -708 (next term of the polynomial: 4e-18).
MOEUT_INLINE double fast_exp(double x) {
  constexpr double kRound = 6755399441055744.0;  // 1.5 · 2^52
  const double shifted = x * 1.4426950408889634074 + kRound;
  const double whole = shifted - kRound;
  const double r = (x - whole * 0.693147180369123816490) - whole * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * (r * r) + r + 1.0;
  const uint64_t n = std::bit_cast<uint64_t>(shifted) - std::bit_cast<uint64_t>(kRound);
  const double scaled = p * std::bit_cast<double>((n + 1022) << 52) * 2.0;
  return std::bit_cast<double>(
      exp_detail::saturate<uint64_t>(std::bit_cast<uint64_t>(scaled), x <= -708.0, x > 709.8, 0x7ff0000000000000u));
}

}  // namespace moeut::kernels
