// Hopper's warpgroup products (wgmma, PTX ISA 9.7.15): the same sums as the mma.sync tiles of
// kernels/gemm.cuh, in the same order of steps of 16 inputs, for matrices of so few inputs that a block keeps
// its share of the weights in shared memory. They exist in sm_90a machine code alone; elsewhere the kernels
// here do nothing, and choose_products (kernels/product_choice.h) does not let them be used.
//
// Tiles lie in shared memory as shared_offset says, which is wgmma's 128-byte swizzle: rows of 64 inputs (of
// 128 in float8), 16-byte chunks exclusive-ored with the row's number, so tiles must begin at multiples of
// 1024 bytes. A thread's results lie as mma.sync deals them: of 16 rows a warp, columns 8 j + 2 (lane % 4)
// and the next.
#pragma once

#include <cstdint>
#include <type_traits>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

#include "kernels/device_math.cuh"

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define SIDEWINDER_WGMMA 1
#endif

namespace sidewinder::cuda {

constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kGroupRows = 64;      // of its instruction
constexpr int kGroupColumns = 128;  // of its instruction
constexpr int kSwizzleBytes = 1'024;

// A warpgroup's results of one instruction: of a warp's rows lane / 4 ([j][0], [j][1]) and 8 below.
using GroupSums = float[1][kGroupColumns / 8][4];

// The dynamic shared memory from its first place on that a swizzled tile may begin at.
__device__ inline unsigned char* swizzle_aligned(unsigned char* shared) {
  const unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  return shared + (kSwizzleBytes - at % kSwizzleBytes) % kSwizzleBytes;
}

#ifdef SIDEWINDER_WGMMA

// What wgmma wants to know of a tile: its address, 1024 bytes from eight rows to the next eight, 128-byte
// swizzle (1). The other stride is not used with whole swizzled rows. All addresses in units of 16 bytes.
__device__ inline std::uint64_t describe_tile(const void* shared) {
  const std::uint64_t at = static_cast<unsigned>(__cvta_generic_to_shared(shared)) / 16 & 0x3fff;
  return at | std::uint64_t{1} << 16 | std::uint64_t{kSwizzleBytes / 16} << 32 | std::uint64_t{1} << 62;
}
// From one step of 16 inputs (32 in float8) to the next.
constexpr std::uint64_t kDescriptorStep = 2;

#define SIDEWINDER_WGMMA_128(INSTRUCTION, TRANSPOSED)                                                   \
  asm volatile(                                                                                         \
      "{\n.reg .pred add;\nsetp.ne.b32 add, 1, 0;\n"                                                    \
      "wgmma.mma_async.sync.aligned.m64n128" INSTRUCTION                                                \
      " {"                                                                                              \
      "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                          \
      "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "                \
      "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "                \
      "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"                  \
      "}, %64, %65, add, 1, 1" TRANSPOSED ";\n}\n"                                                      \
      : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),       \
        "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),       \
        "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),       \
        "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),       \
        "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),       \
        "+f"(d[7][2]), "+f"(d[7][3]), "+f"(d[8][0]), "+f"(d[8][1]), "+f"(d[8][2]), "+f"(d[8][3]),       \
        "+f"(d[9][0]), "+f"(d[9][1]), "+f"(d[9][2]), "+f"(d[9][3]), "+f"(d[10][0]), "+f"(d[10][1]),     \
        "+f"(d[10][2]), "+f"(d[10][3]), "+f"(d[11][0]), "+f"(d[11][1]), "+f"(d[11][2]), "+f"(d[11][3]), \
        "+f"(d[12][0]), "+f"(d[12][1]), "+f"(d[12][2]), "+f"(d[12][3]), "+f"(d[13][0]), "+f"(d[13][1]), \
        "+f"(d[13][2]), "+f"(d[13][3]), "+f"(d[14][0]), "+f"(d[14][1]), "+f"(d[14][2]), "+f"(d[14][3]), \
        "+f"(d[15][0]), "+f"(d[15][1]), "+f"(d[15][2]), "+f"(d[15][3])                                  \
      : "l"(a), "l"(b))

// sums += a b^T for a (64, 16) and b (128, 16), in float8 (64, 32) and (128, 32), of descriptors; done when
// wait_products says so.
template <typename T>
__device__ inline void group_multiply_add(GroupSums& sums, std::uint64_t a, std::uint64_t b) {
  float(&d)[kGroupColumns / 8][4] = sums[0];
  if constexpr (std::is_same_v<T, __half>)
    SIDEWINDER_WGMMA_128("k16.f32.f16.f16", ", 0, 0");
  else if constexpr (std::is_same_v<T, __nv_bfloat16>)
    SIDEWINDER_WGMMA_128("k16.f32.bf16.bf16", ", 0, 0");
  else
    SIDEWINDER_WGMMA_128("k32.f32.e4m3.e4m3", "");
}
#undef SIDEWINDER_WGMMA_128

// Keeps the compiler from moving uses of the sums across this place.
__device__ inline void pin(GroupSums& sums) {
#pragma unroll
  for (int j = 0; j < kGroupColumns / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i) asm volatile("" : "+f"(sums[0][j][i])::"memory");
}
// Before the first product that uses registers which ordinary instructions wrote.
__device__ inline void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int Pending>
__device__ inline void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}
// What this thread's copies brought to shared memory is there for wgmma, once a barrier follows.
__device__ inline void show_copies_to_products() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// A barrier of one warpgroup's threads; 0 is __syncthreads.
__device__ inline void group_barrier(int group) {
  asm volatile("bar.sync %0, %1;" ::"r"(group + 1), "n"(kGroupThreads) : "memory");
}

#endif  // SIDEWINDER_WGMMA

}  // namespace sidewinder::cuda
