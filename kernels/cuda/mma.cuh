// Tensor cores by mma.sync, and what feeds them: tiles of 16-bit numbers in shared memory, filled by cp.async and read
// by ldmatrix. Chunks of 16 bytes are permuted within a row so that neither of the two meets a bank conflict.
#pragma once

#include <cstdint>

#include "core/float16.h"

namespace moeut::kernels::cuda {

/// 16 x 16 of A by 16 x 8 of B, added to 16 x 8 of C, sums in float. Lane l holds of C: rows l/4 and l/4 + 8, columns
/// 2 (l%4) and the next.
template <class T>
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], const uint32_t b0, const uint32_t b1);
template <>
__device__ inline void mma<BFloat16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t b0, const uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ inline void mma<Float16>(float (&c)[4], const uint32_t (&a)[4], const uint32_t b0, const uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Two numbers rounded into one register, and back.
template <class T>
__device__ inline uint32_t pack(float low, float high);
template <>
__device__ inline uint32_t pack<BFloat16>(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
template <>
__device__ inline uint32_t pack<Float16>(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
template <class T>
__device__ inline float2 unpack(uint32_t pair);
template <>
__device__ inline float2 unpack<BFloat16>(uint32_t pair) {
  return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
}
template <>
__device__ inline float2 unpack<Float16>(uint32_t pair) {
  Float16 low, high;
  low.bits = static_cast<uint16_t>(pair);
  high.bits = static_cast<uint16_t>(pair >> 16);
  return {float(low), float(high)};
}

__device__ inline uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Four 8 x 8 matrices; lane l gives the address of row l%8 of matrix l/8. Transposed, if asked.
template <bool kTransposed>
__device__ inline void load_matrices(uint32_t (&r)[4], uint32_t address) {
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address));
  }
}

/// Copies kBytes (4, 8 or 16) to shared memory in the background, or zeros if not `there`.
template <int kBytes>
__device__ inline void copy_async(uint32_t to, const void* from, bool there) {
  const int bytes = there ? kBytes : 0;
  if constexpr (kBytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kBytes), "r"(bytes));
  }
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;");
}
/// Waits until at most kPending groups are still under way.
template <int kPending>
__device__ inline void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending));
}

/// A tile of kRows x kColumns 16-bit numbers.
template <int kRows, int kColumns>
struct SharedTile {
  static constexpr int kChunks = kColumns / 8;  // of 16 bytes, in a row
  static constexpr int kBytes = kRows * kColumns * 2;
  static_assert(kChunks == 4 || kChunks % 8 == 0);

  /// Byte offset of a chunk.
  __device__ static uint32_t offset(int row, int chunk) {
    const int permuted = kChunks == 4 ? chunk ^ (row >> 1 & 3) : chunk ^ (row & 7);
    return static_cast<uint32_t>(row * kChunks + permuted) * 16;
  }
};

}  // namespace moeut::kernels::cuda
