// Tensor cores of Hopper (sm_90a): wgmma, which reads both operands from shared memory, and the layout that it reads:
// rows of 128 bytes whose 16-byte chunks are permuted by their number in a group of eight ("128-byte swizzle").
// [PTX ISA, wgmma.mma_async: matrix descriptor and canonical layouts]
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/float16.h"

// A binary holds code for other architectures too, in which these kernels are empty; wgmma_available() tells.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MOEUT_HAS_WGMMA 1
#else
#define MOEUT_HAS_WGMMA 0
#endif

namespace moeut::kernels::cuda {

/// A tile of shared memory in which `kLines` lines of 64 numbers lie one after the other, 1024-byte aligned. A line is
/// 64 summed elements of one row ("summed" lines), or 64 rows at one summed place ("row" lines): wgmma reads either.
struct SwizzledTile {
  static constexpr int kLineBytes = 128;
  static constexpr int kGroupBytes = 8 * kLineBytes;

  /// Byte offset of 16-byte chunk 0..7 of a line.
  __device__ static uint32_t offset(int line, int chunk) {
    return static_cast<uint32_t>(line * kLineBytes + (chunk ^ (line & 7)) * 16);
  }
  /// What wgmma needs to know: where the operand begins, and how far apart groups of eight lines and, for row lines,
  /// blocks of 64 rows are.
  __device__ static uint64_t descriptor(uint32_t address, uint32_t block_bytes) {
    constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
    const auto field = [](uint32_t bytes) { return static_cast<uint64_t>((bytes & 0x3FFFF) >> 4); };
    return field(address) | field(block_bytes) << 16 | field(kGroupBytes) << 32 | kSwizzle128;
  }
};

/// Orders this thread's earlier writes to shared memory, copy_async included, before what wgmma reads.
__device__ inline void fence_for_wgmma() {
#if MOEUT_HAS_WGMMA
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ inline void begin_wgmma() {
#if MOEUT_HAS_WGMMA
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ inline void commit_wgmma() {
#if MOEUT_HAS_WGMMA
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/// Waits for all wgmma of this warpgroup; only then may their sums be read.
__device__ inline void wait_for_wgmma(float (&sums)[64]) {
#if MOEUT_HAS_WGMMA
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#endif
#pragma unroll
  for (float& sum : sums) asm volatile("" : "+f"(sum)::"memory");  // the compiler may not read them earlier
}

#define MOEUT_WGMMA_SUMS(d)                                                                                   \
  "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
      "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),  \
      "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), \
      "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), \
      "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), \
      "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), \
      "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), \
      "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define MOEUT_WGMMA(type, d, a, b)                                                                                    \
  asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type                                                    \
               " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26," \
               "%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51," \
               "%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, %66, %67;"                       \
               : MOEUT_WGMMA_SUMS(d)                                                                                  \
               : "l"(a), "l"(b), "n"(kRowLinesA ? 1 : 0), "n"(kRowLinesB ? 1 : 0))

/// Starts sums += A · B, 64 x 16 by 16 x 128. Lane l of warp w of the warpgroup holds in sums[4 j + 2 h + i] row
/// 16 w + l/4 + 8 h, column 8 j + 2 (l%4) + i. kRowLines…: how the operand lies.
template <class T, bool kRowLinesA, bool kRowLinesB>
__device__ inline void wgmma(float (&sums)[64], uint64_t a, uint64_t b) {
#if MOEUT_HAS_WGMMA
  if constexpr (std::is_same_v<T, BFloat16>) {
    MOEUT_WGMMA("bf16.bf16", sums, a, b);
  } else {
    MOEUT_WGMMA("f16.f16", sums, a, b);
  }
#endif
}
#undef MOEUT_WGMMA
#undef MOEUT_WGMMA_SUMS

}  // namespace moeut::kernels::cuda
