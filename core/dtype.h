// Element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/float16.h"

namespace moeut {

enum class DType : uint8_t { f32, f64, tf32, bf16, f16, i32, i64, u8, u64 };

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
    case DType::u64:
      return 8;
    case DType::f32:
    case DType::tf32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr const char* name_of(DType t) {
  constexpr const char* names[] = {"f32", "f64", "tf32", "bf16", "f16", "i32", "i64", "u8", "u64"};
  return names[static_cast<int>(t)];
}

constexpr bool is_floating(DType t) {
  return t <= DType::f16;
}

/// The DType of a C++ type: dtype_of<float> == DType::f32.
template <class T>
inline constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<double> = DType::f64;
template <>
inline constexpr DType dtype_of<TFloat32> = DType::tf32;
template <>
inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <>
inline constexpr DType dtype_of<Float16> = DType::f16;
template <>
inline constexpr DType dtype_of<int32_t> = DType::i32;
template <>
inline constexpr DType dtype_of<int64_t> = DType::i64;
template <>
inline constexpr DType dtype_of<uint8_t> = DType::u8;
template <>
inline constexpr DType dtype_of<uint64_t> = DType::u64;

/// The DType of Wide<T>: what values of type `t` are summed in, and master weights and gradients are kept in.
constexpr DType wide_of(DType t) {
  return t == DType::tf32 || t == DType::bf16 || t == DType::f16 ? DType::f32 : t;
}

/// What a kernel does with its output: `overwrite` treats it as uninitialised memory, `accumulate` adds to it.
enum class Mode : uint8_t { overwrite, accumulate };

}  // namespace moeut
