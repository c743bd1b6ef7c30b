// Small device functions that several kernels share. A value's bits depend on its inputs alone.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>

namespace sidewinder::cuda {

constexpr int kWarp = 32;

// 2^x, at most 2 units in the last place off; exact zeros below 2^-126.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ inline float silu(float x) {
  return __fdividef(x, 1.0f + exp2_fast(-1.44269504f * x));
}

// log(1 + exp(x)), the identity above 20 as in the published Mamba code.
__device__ inline float softplus(float x) {
  return x > 20.0f ? x : log1pf(exp2_fast(1.44269504f * x));
}

// Float16 saturates: one too large value must not turn a stream's state into infinities.
__device__ inline float clamp_half(float x) {
  return fminf(fmaxf(x, -65504.0f), 65504.0f);
}

// Four consecutive activations; 4 bytes of 8-bit values, 8 of 16-bit ones or 16 of float32, aligned as such.
__device__ inline void store4(float* to, float4 v) {
  *reinterpret_cast<float4*>(to) = v;
}
__device__ inline void store4(__half* to, float4 v) {
  __half2 low = __floats2half2_rn(clamp_half(v.x), clamp_half(v.y));
  __half2 high = __floats2half2_rn(clamp_half(v.z), clamp_half(v.w));
  uint2 bits;
  bits.x = *reinterpret_cast<unsigned*>(&low);
  bits.y = *reinterpret_cast<unsigned*>(&high);
  *reinterpret_cast<uint2*>(to) = bits;
}
__device__ inline void store4(__nv_bfloat16* to, float4 v) {
  __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y), high = __floats2bfloat162_rn(v.z, v.w);
  uint2 bits;
  bits.x = *reinterpret_cast<unsigned*>(&low);
  bits.y = *reinterpret_cast<unsigned*>(&high);
  *reinterpret_cast<uint2*>(to) = bits;
}
// Float8 saturates at 448.
__device__ inline void store4(__nv_fp8_e4m3* to, float4 v) {
  const unsigned low = __nv_cvt_float2_to_fp8x2({v.x, v.y}, __NV_SATFINITE, __NV_E4M3);
  const unsigned high = __nv_cvt_float2_to_fp8x2({v.z, v.w}, __NV_SATFINITE, __NV_E4M3);
  *reinterpret_cast<unsigned*>(to) = low | high << 16;
}
__device__ inline float4 load4(const float* from) {
  return *reinterpret_cast<const float4*>(from);
}
__device__ inline float4 load4(const __half* from) {
  uint2 bits = *reinterpret_cast<const uint2*>(from);
  float2 low = __half22float2(*reinterpret_cast<__half2*>(&bits.x));
  float2 high = __half22float2(*reinterpret_cast<__half2*>(&bits.y));
  return {low.x, low.y, high.x, high.y};
}
__device__ inline float4 load4(const __nv_bfloat16* from) {
  uint2 bits = *reinterpret_cast<const uint2*>(from);
  float2 low = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162*>(&bits.x));
  float2 high = __bfloat1622float2(*reinterpret_cast<__nv_bfloat162*>(&bits.y));
  return {low.x, low.y, high.x, high.y};
}

__device__ inline float to_float(float v) {
  return v;
}
__device__ inline float to_float(__half v) {
  return __half2float(v);
}
__device__ inline float to_float(__nv_bfloat16 v) {
  return __bfloat162float(v);
}
template <typename T>
__device__ T from_float(float v);
template <>
__device__ inline float from_float<float>(float v) {
  return v;
}
template <>
__device__ inline __half from_float<__half>(float v) {
  return __float2half_rn(clamp_half(v));
}
template <>
__device__ inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) {
  return __float2bfloat16_rn(v);
}

template <>
__device__ inline __nv_fp8_e4m3 from_float<__nv_fp8_e4m3>(float v) {
  __nv_fp8_e4m3 out;
  out.__x = __nv_cvt_float_to_fp8(v, __NV_SATFINITE, __NV_E4M3);
  return out;
}

// Sum over a warp, the same in every lane; the order is fixed.
__device__ inline float warp_sum(float v) {
  for (int step = kWarp / 2; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  return v;
}

// One warp's share of a row's RMSNorm: lane's columns are 4 lane + 128 i. `values` gives a float4 of a
// column.
template <typename Values>
__device__ inline float rms_scale(int lane, int width, float eps, Values&& values) {
  float sum = 0.0f;
  for (int c = 4 * lane; c < width; c += 4 * kWarp) {
    float4 v = values(c);
    sum = fmaf(v.x, v.x, sum);
    sum = fmaf(v.y, v.y, sum);
    sum = fmaf(v.z, v.z, sum);
    sum = fmaf(v.w, v.w, sum);
  }
  return 1.0f / sqrtf(warp_sum(sum) / static_cast<float>(width) + eps);
}

__device__ inline float4 scaled(float4 v, float scale, float4 weight) {
  return {v.x * scale * weight.x, v.y * scale * weight.y, v.z * scale * weight.z, v.w * scale * weight.w};
}

// 16 bytes to shared memory, behind the thread's back; zeros when not `valid`.
__device__ inline void copy_async(void* shared, const void* global, bool valid) {
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  int bytes = valid ? 16 : 0;  // the rest is zeroed
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(global), "r"(bytes) : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int Pending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}
}  // namespace sidewinder::cuda
