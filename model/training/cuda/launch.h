// What the three kernel files share. Compiled by nvcc it is thin; with SIDEWINDER_HOST a C++ compiler builds the same
// kernels to run on the processor, one thread a CUDA thread, so that their arithmetic can be tested without a GPU.
#pragma once
#include <cstdint>

#ifndef SIDEWINDER_HOST

#include <cuda_bf16.h>
using bf16 = __nv_bfloat16;
using Stream = cudaStream_t;
#define FULL 0xffffffffu
#define LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#define LAST_ERROR() static_cast<int>(cudaGetLastError())

#else

#include <algorithm>
#include <atomic>
#include <barrier>
#include <cmath>
#include <memory>
#include <thread>
#include <vector>
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __shared__ static
using Stream = void*;
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct float4 { float x, y, z, w; };
inline thread_local dim3 threadIdx, blockIdx, blockDim;
inline std::unique_ptr<std::barrier<>> host_block;
inline std::vector<std::unique_ptr<std::barrier<>>> host_warp;
inline float host_lane[1024];
#define FULL 0
inline void __syncthreads() { host_block->arrive_and_wait(); }
inline float __shfl_xor_sync(unsigned, float v, int mask) {
  auto& b = *host_warp[threadIdx.x / 32];
  host_lane[threadIdx.x] = v;
  b.arrive_and_wait();
  float r = host_lane[threadIdx.x ^ mask];
  b.arrive_and_wait();
  return r;
}
inline void atomicAdd(float* p, float v) { std::atomic_ref<float>(*p).fetch_add(v); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float sinpif(float x) { return static_cast<float>(std::sin(M_PI * x)); }
inline float cospif(float x) { return static_cast<float>(std::cos(M_PI * x)); }
using std::max;
using std::min;
template <typename F, typename... A>
void host_launch(F kernel, dim3 grid, dim3 block, A... args) {
  host_block = std::make_unique<std::barrier<>>(block.x);
  host_warp.clear();
  for (unsigned i = 0; i < block.x; i += 32) host_warp.push_back(std::make_unique<std::barrier<>>(min(32u, block.x - i)));
  std::vector<std::thread> all;
  for (unsigned t = 0; t < block.x; ++t)
    all.emplace_back([=] {
      threadIdx = dim3(t, 0, 0);
      blockDim = block;
      for (unsigned y = 0; y < grid.y; ++y)
        for (unsigned x = 0; x < grid.x; ++x) {
          blockIdx = dim3(x, y, 0);
          kernel(args...);
          __syncthreads();
        }
    });
  for (auto& t : all) t.join();
}
#define LAUNCH(kernel, grid, block, stream, ...) host_launch(kernel, dim3(grid), dim3(block), __VA_ARGS__)
#define LAST_ERROR() 0

#endif

template <typename T>
__device__ __forceinline__ float to_f(T v) { return static_cast<float>(v); }
template <typename T>
__device__ __forceinline__ T from_f(float v) { return static_cast<T>(v); }

// both kinds of element are compiled for the GPU, floats alone for the host
#ifndef SIDEWINDER_HOST
#define BY_TYPE(half, call) do { if (half) { using T = bf16; call; } else { using T = float; call; } } while (0)
#else
#define BY_TYPE(half, call) do { using T = float; call; } while (0)
#endif
