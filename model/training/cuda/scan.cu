// Mamba-1's selective scan for training, with everything that surrounds the recurrence fused into it:
//   dt = softplus(dt_raw + bias);  h_t = exp(dt_t A) h_{t-1} + dt_t u_t B_t;  y_t = (C_t . h_t + D u_t) * silu(z_t)
//
// u, dt_raw, z: (batch, length, channels), z with a row stride of its own; bc: (batch, length, 32) with a row stride: the 16
// B, then the 16 C. A: (channels, 16), negative. h0, hT: (batch, channels, 16) float: the state that comes in (times
// carry[batch]) and the one left at the end. Forward keeps the state at every 16th step (hs); backward computes the
// steps between again, in registers.
//
// A block is 32 channels of one row. Four neighbouring lanes share a channel, four states each.
#include "launch.h"

namespace {

constexpr int kSteps = 16;    // time steps a tile
constexpr int kCh = 32;       // channels a block
constexpr int kThreads = 128;
constexpr int kEach = kSteps * kCh / kThreads;  // tile elements a thread
constexpr float kLog2e = 1.4426950408889634f;

__device__ __forceinline__ float softplus(float s) { return s > 20.f ? s : log1pf(__expf(s)); }
__device__ __forceinline__ float sigmoid(float z) { return 1.f / (1.f + __expf(-z)); }

template <typename T>
__global__ void __launch_bounds__(kThreads) scan_forward(
    const T* __restrict__ u, const T* __restrict__ dtr, const T* __restrict__ z, const T* __restrict__ bc,
    const float* __restrict__ A, const float* __restrict__ D, const float* __restrict__ bias,
    const float* __restrict__ h0, const float* __restrict__ carry, T* __restrict__ y, float* __restrict__ hs,
    float* __restrict__ hT, int L, int ch, long zs, long bs) {
  __shared__ float s_dt[kSteps][kCh], s_u[kSteps][kCh], s_y[kSteps][kCh];
  __shared__ float4 s_bc[kSteps][8];
  const int tid = threadIdx.x, q = tid & 3, c = tid >> 2, b = blockIdx.y, d0 = blockIdx.x * kCh, d = d0 + c;
  const int tiles = (L + kSteps - 1) / kSteps;
  const int ec = tid & 31, ek = tid >> 5;  // this thread's elements of a tile: channel ec, steps ek, ek + 4, ...
  float a[4], h[4];
  const long hrow = (static_cast<long>(b) * ch + d) * 16 + q * 4;
  for (int i = 0; i < 4; ++i) {
    a[i] = A[d * 16 + q * 4 + i] * kLog2e;
    h[i] = h0 ? h0[hrow + i] * carry[b] : 0.f;
  }
  const float eb = bias[d0 + ec], eD = D[d0 + ec];
  const long row0 = static_cast<long>(b) * L;
  float ru[kEach], rdt[kEach], rz[kEach], rbc[kEach];
  auto load = [&](int t0) {
    for (int j = 0; j < kEach; ++j) {
      const int t = t0 + ek + 4 * j;
      const bool in = t < L;
      const long row = row0 + t;
      ru[j] = in ? to_f(u[row * ch + d0 + ec]) : 0.f;
      rdt[j] = in ? to_f(dtr[row * ch + d0 + ec]) : -1e4f;  // softplus: 0, and the state stands still
      rz[j] = in ? to_f(z[row * zs + d0 + ec]) : 0.f;
      rbc[j] = in ? to_f(bc[row * bs + ec]) : 0.f;
    }
  };
  load(0);
  for (int tile = 0; tile < tiles; ++tile) {
    float zu[kEach], uu[kEach];
    for (int j = 0; j < kEach; ++j) {
      const int k = ek + 4 * j;
      s_dt[k][ec] = softplus(rdt[j] + eb);
      s_u[k][ec] = uu[j] = ru[j];
      reinterpret_cast<float*>(s_bc[k])[ec] = rbc[j];
      zu[j] = rz[j] * sigmoid(rz[j]);
    }
    if (hs) {
      float4 v{h[0], h[1], h[2], h[3]};
      *reinterpret_cast<float4*>(hs + ((static_cast<long>(b) * tiles + tile) * ch + d) * 16 + q * 4) = v;
    }
    __syncthreads();
    if (tile + 1 < tiles) load((tile + 1) * kSteps);
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const float dt = s_dt[k][c], du = dt * s_u[k][c];
      const float4 B = s_bc[k][q], C = s_bc[k][4 + q];
      h[0] = exp2f(dt * a[0]) * h[0] + du * B.x;
      h[1] = exp2f(dt * a[1]) * h[1] + du * B.y;
      h[2] = exp2f(dt * a[2]) * h[2] + du * B.z;
      h[3] = exp2f(dt * a[3]) * h[3] + du * B.w;
      float v = C.x * h[0] + C.y * h[1] + C.z * h[2] + C.w * h[3];
      v += __shfl_xor_sync(FULL, v, 1);
      v += __shfl_xor_sync(FULL, v, 2);
      if (q == 0) s_y[k][c] = v;
    }
    __syncthreads();
    for (int j = 0; j < kEach; ++j) {
      const int k = ek + 4 * j, t = tile * kSteps + k;
      if (t < L) y[(row0 + t) * ch + d0 + ec] = from_f<T>((s_y[k][ec] + eD * uu[j]) * zu[j]);
    }
  }
  if (hT)
    for (int i = 0; i < 4; ++i) hT[hrow + i] = h[i];
}

template <typename T>
__global__ void __launch_bounds__(kThreads) scan_backward(
    const T* __restrict__ u, const T* __restrict__ dtr, const T* __restrict__ z, const T* __restrict__ bc,
    const float* __restrict__ A, const float* __restrict__ D, const float* __restrict__ bias,
    const float* __restrict__ hs, const T* __restrict__ gout, T* __restrict__ gu, T* __restrict__ gdtr,
    T* __restrict__ gz, float* __restrict__ gbc, float* __restrict__ gA, float* __restrict__ gD,
    float* __restrict__ gbias, int L, int ch, long zs, long bs, int rows) {
  __shared__ float s_dt[kSteps][kCh], s_u[kSteps][kCh], s_gy[kSteps][kCh], s_y[kSteps][kCh], s_gu[kSteps][kCh],
      s_gdt[kSteps][kCh];
  __shared__ float4 s_bc[kSteps][8];
  __shared__ float s_gbc[kThreads / 32][kSteps][32];
  const int tid = threadIdx.x, q = tid & 3, c = tid >> 2, b = blockIdx.y, d0 = blockIdx.x * kCh, d = d0 + c;
  const int tiles = (L + kSteps - 1) / kSteps;
  const int ec = tid & 31, ek = tid >> 5, lane = tid & 31, warp = tid >> 5;
  const int bit4 = (lane >> 4) & 1, bit3 = (lane >> 3) & 1, bit2 = (lane >> 2) & 1;
  float a[4], gh[4] = {0.f, 0.f, 0.f, 0.f}, ga[4] = {0.f, 0.f, 0.f, 0.f};
  for (int i = 0; i < 4; ++i) a[i] = A[d * 16 + q * 4 + i];
  const float eb = bias[d0 + ec], eD = D[d0 + ec];
  const long row0 = static_cast<long>(b) * L;
  float gD_sum = 0.f, gb_sum = 0.f;
  float ru[kEach], rdt[kEach], rz[kEach], rg[kEach], rbc[kEach];
  float4 rh;
  auto load = [&](int tile) {
    for (int j = 0; j < kEach; ++j) {
      const int t = tile * kSteps + ek + 4 * j;
      const bool in = t < L;
      const long row = row0 + t;
      ru[j] = in ? to_f(u[row * ch + d0 + ec]) : 0.f;
      rdt[j] = in ? to_f(dtr[row * ch + d0 + ec]) : -1e4f;
      rz[j] = in ? to_f(z[row * zs + d0 + ec]) : 0.f;
      rg[j] = in ? to_f(gout[row * ch + d0 + ec]) : 0.f;
      rbc[j] = in ? to_f(bc[row * bs + ec]) : 0.f;
    }
    rh = *reinterpret_cast<const float4*>(hs + ((static_cast<long>(b) * tiles + tile) * ch + d) * 16 + q * 4);
  };
  load(tiles - 1);
  for (int tile = tiles - 1; tile >= 0; --tile) {
    float zz[kEach], gg[kEach], uu[kEach];
    for (int j = 0; j < kEach; ++j) {
      const int k = ek + 4 * j;
      s_dt[k][ec] = softplus(rdt[j] + eb);
      s_u[k][ec] = uu[j] = ru[j];
      zz[j] = rz[j];
      gg[j] = rg[j];
      s_gy[k][ec] = rg[j] * rz[j] * sigmoid(rz[j]);
      reinterpret_cast<float*>(s_bc[k])[ec] = rbc[j];
    }
    const float hstart[4] = {rh.x, rh.y, rh.z, rh.w};
    __syncthreads();
    if (tile > 0) load(tile - 1);
    float hh[kSteps][4];
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      const float dt = s_dt[k][c], du = dt * s_u[k][c];
      const float4 B = s_bc[k][q], C = s_bc[k][4 + q];
      const float Bv[4] = {B.x, B.y, B.z, B.w}, Cv[4] = {C.x, C.y, C.z, C.w};
      float v = 0.f;
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float hp = k ? hh[k ? k - 1 : 0][i] : hstart[i];
        hh[k][i] = exp2f(dt * a[i] * kLog2e) * hp + du * Bv[i];
        v += Cv[i] * hh[k][i];
      }
      v += __shfl_xor_sync(FULL, v, 1);
      v += __shfl_xor_sync(FULL, v, 2);
      if (q == 0) s_y[k][c] = v;
    }
#pragma unroll
    for (int k = kSteps - 1; k >= 0; --k) {
      const float dt = s_dt[k][c], uk = s_u[k][c], gy = s_gy[k][c];
      const float4 B = s_bc[k][q], C = s_bc[k][4 + q];
      const float Bv[4] = {B.x, B.y, B.z, B.w}, Cv[4] = {C.x, C.y, C.z, C.w};
      float g_du = 0.f, g_dt = 0.f, v[8];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float hp = k ? hh[k ? k - 1 : 0][i] : hstart[i];
        gh[i] += gy * Cv[i];
        v[4 + i] = gy * hh[k][i];
        v[i] = gh[i] * dt * uk;
        g_du += gh[i] * Bv[i];
        gh[i] *= exp2f(dt * a[i] * kLog2e);
        const float w = gh[i] * hp;
        ga[i] += w * dt;
        g_dt += w * a[i];
      }
      g_du += __shfl_xor_sync(FULL, g_du, 1);
      g_du += __shfl_xor_sync(FULL, g_du, 2);
      g_dt += __shfl_xor_sync(FULL, g_dt, 1);
      g_dt += __shfl_xor_sync(FULL, g_dt, 2);
      if (q == 0) s_gu[k][c] = g_du * dt;
      if (q == 1) s_gdt[k][c] = (g_du * uk + g_dt) * (1.f - __expf(-dt));
      // the sum over the warp's 8 channels: every exchange halves the values a lane keeps
      float w4[4], w2[2];
#pragma unroll
      for (int i = 0; i < 4; ++i) w4[i] = (bit4 ? v[4 + i] : v[i]) + __shfl_xor_sync(FULL, bit4 ? v[i] : v[4 + i], 16);
#pragma unroll
      for (int i = 0; i < 2; ++i) w2[i] = (bit3 ? w4[2 + i] : w4[i]) + __shfl_xor_sync(FULL, bit3 ? w4[i] : w4[2 + i], 8);
      s_gbc[warp][k][bit4 * 16 + q * 4 + bit3 * 2 + bit2] =
          (bit2 ? w2[1] : w2[0]) + __shfl_xor_sync(FULL, bit2 ? w2[0] : w2[1], 4);
    }
    __syncthreads();
    for (int j = 0; j < kEach; ++j) {
      const int k = ek + 4 * j, t = tile * kSteps + k;
      if (t >= L) continue;
      const long row = row0 + t, o = row * ch + d0 + ec;
      const float sg = sigmoid(zz[j]), gy = s_gy[k][ec], gs = s_gdt[k][ec];
      gu[o] = from_f<T>(s_gu[k][ec] + eD * gy);
      gdtr[o] = from_f<T>(gs);
      gz[o] = from_f<T>(gg[j] * (s_y[k][ec] + eD * uu[j]) * sg * (1.f + zz[j] * (1.f - sg)));
      gD_sum += gy * uu[j];
      gb_sum += gs;
      float sum = 0.f;
      for (int w = 0; w < kThreads / 32; ++w) sum += s_gbc[w][k][ec];
      gbc[(static_cast<long>(blockIdx.x) * rows * L + row) * 32 + ec] = sum;
    }
    __syncthreads();
  }
  for (int i = 0; i < 4; ++i) atomicAdd(gA + d * 16 + q * 4 + i, ga[i]);
  atomicAdd(gD + d0 + ec, gD_sum);
  atomicAdd(gbias + d0 + ec, gb_sum);
}

}  // namespace

extern "C" int sw_scan_forward(const void* u, const void* dtr, const void* z, const void* bc, const float* A, const float* D,
                               const float* bias, const float* h0, const float* carry, void* y, float* hs, float* hT,
                               int rows, int L, int ch, long zs, long bs, int half, Stream stream) {
  dim3 grid(ch / kCh, rows);
  BY_TYPE(half, LAUNCH(scan_forward<T>, grid, kThreads, stream, (const T*)u, (const T*)dtr, (const T*)z, (const T*)bc, A, D,
                       bias, h0, carry, (T*)y, hs, hT, L, ch, zs, bs));
  return LAST_ERROR();
}

extern "C" int sw_scan_backward(const void* u, const void* dtr, const void* z, const void* bc, const float* A, const float* D,
                                const float* bias, const float* hs, const void* gout, void* gu, void* gdtr, void* gz,
                                float* gbc, float* gA, float* gD, float* gbias, int rows, int L, int ch, long zs, long bs,
                                int half, Stream stream) {
  dim3 grid(ch / kCh, rows);
  BY_TYPE(half, LAUNCH(scan_backward<T>, grid, kThreads, stream, (const T*)u, (const T*)dtr, (const T*)z, (const T*)bc, A, D,
                       bias, hs, (const T*)gout, (T*)gu, (T*)gdtr, (T*)gz, gbc, gA, gD, gbias, L, ch, zs, bs, rows));
  return LAST_ERROR();
}
