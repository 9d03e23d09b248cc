// A vectorisable exponential: branch-free, so that the compiler turns a loop over it into SIMD without relaxed floating point.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/cpu/simd.h"

namespace moeut::kernels {

/// e^x to about 1 ulp. Below the smallest normal number the result is 0; above the largest, infinity is approached, never NaN for finite x.
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial, 2^n by the exponent bits.
MOEUT_INLINE float fast_exp(float x) {
  const float clamped = x < -87.3f ? -87.3f : (x > 88.7f ? 88.7f : x);
  const float shifted = clamped * 1.44269504088896341f + 12582912.0f;  // 1.5 · 2^23: the sum's low bits are round(x / ln 2)
  const int32_t n = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(12582912.0f);
  const float whole = shifted - 12582912.0f;
  const float r = (clamped - whole * 0.693145751953125f) - whole * 1.42860682030941723e-6f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  // 2^n in two halves: n = 128 has no float of its own.
  const int32_t half = n >> 1;
  const float scaled = p * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((n - half + 127) << 23);
  return x < -87.3f ? 0.0f : scaled;
}

MOEUT_INLINE double fast_exp(double x) {
  const double clamped = x < -708.0 ? -708.0 : (x > 709.7 ? 709.7 : x);
  const double shifted = clamped * 1.4426950408889634074 + 6755399441055744.0;  // 1.5 · 2^52
  const int64_t n = std::bit_cast<int64_t>(shifted) - std::bit_cast<int64_t>(6755399441055744.0);
  const double whole = shifted - 6755399441055744.0;
  const double r = (clamped - whole * 0.693147180369123816490) - whole * 1.90821492927058770002e-10;
  double p = 1.0 / 479001600;
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
  p = p * r * r + r + 1.0;
  const int64_t half = n >> 1;
  const double scaled = p * std::bit_cast<double>((half + 1023) << 52) * std::bit_cast<double>((n - half + 1023) << 52);
  return x < -708.0 ? 0.0 : scaled;
}

}  // namespace moeut::kernels
