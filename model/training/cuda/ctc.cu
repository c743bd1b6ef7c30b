// CTC's loss and its gradient with respect to the logits, for rows of one length, with no word from the host: it can stand
// inside a CUDA graph. logits (rows, T, V); labels (rows, U), lens (rows,); blank is 0. An empty target is allowed (the
// loss is then that of all blanks); a target that does not fit in T frames costs and moves nothing.
#include "launch.h"

namespace {

constexpr float kNone = -1e30f;

template <typename T>
__global__ void ctc_lse(const T* __restrict__ x, float* __restrict__ lse, int frames, int V) {
  const int lane = threadIdx.x & 31, f = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (f >= frames) return;  // a whole warp
  const T* row = x + static_cast<long>(f) * V;
  float m = kNone, s = 0.f;
  for (int v = lane; v < V; v += 32) m = max(m, to_f(row[v]));
  for (int k = 16; k; k >>= 1) m = max(m, __shfl_xor_sync(FULL, m, k));
  for (int v = lane; v < V; v += 32) s += __expf(to_f(row[v]) - m);
  for (int k = 16; k; k >>= 1) s += __shfl_xor_sync(FULL, s, k);
  if (lane == 0) lse[f] = m + __logf(s);
}

// blockIdx.y 0: alpha, 1: beta, which is alpha of everything reversed. ab: (2, rows, T, W), W = 2 U + 1, a thread a state.
template <typename T>
__global__ void ctc_walk(const T* __restrict__ x, const float* __restrict__ lse, const int* __restrict__ labels,
                         const int* __restrict__ lens, float* __restrict__ ab, float* __restrict__ loss, int rows, int frames,
                         int V, int U) {
  __shared__ float prev[2][1026];
  const int b = blockIdx.x, s = threadIdx.x, W = 2 * U + 1, S = 2 * lens[b] + 1;
  const bool back = blockIdx.y;
  const int at = back ? S - 1 - s : s;  // this thread's place in the extended target
  const bool on = s < S;
  const int label = on && (at & 1) ? labels[b * U + at / 2] : 0;
  bool skip = on && (at & 1) && s >= 2;
  if (skip) skip = labels[b * U + (back ? at + 2 : at - 2) / 2] != label;
  float* out = ab + (static_cast<long>(back ? rows + b : b) * frames) * W;
  const T* xr = x + static_cast<long>(b) * frames * V;
  const float* lr = lse + static_cast<long>(b) * frames;
  if (s < 2) prev[0][s] = prev[1][s] = kNone;
  auto emit = [&](int i) { const int t = back ? frames - 1 - i : i; return on ? to_f(xr[static_cast<long>(t) * V + label]) - lr[t] : kNone; };
  float next = emit(0), v = kNone;
  for (int i = 0; i < frames; ++i) {
    const float e = next;
    if (i + 1 < frames) next = emit(i + 1);
    if (i == 0) {
      v = on && s < 2 ? e : kNone;
    } else if (on) {
      const float* p = prev[(i - 1) & 1];
      const float p0 = p[2 + s], p1 = p[1 + s], p2 = skip ? p[s] : kNone;
      const float m = max(p0, max(p1, p2));
      v = m <= -1e29f ? kNone : e + m + __logf(__expf(p0 - m) + __expf(p1 - m) + __expf(p2 - m));
    }
    prev[i & 1][2 + s] = v;
    if (s < W) out[static_cast<long>(back ? frames - 1 - i : i) * W + (on ? at : s)] = v;
    __syncthreads();
  }
  if (!back && s == 0) {
    const float* p = prev[(frames - 1) & 1];
    const float p0 = p[2 + S - 1], p1 = S > 1 ? p[2 + S - 2] : kNone, m = max(p0, p1);
    loss[b] = m <= -1e29f ? 0.f : -(m + __logf(__expf(p0 - m) + __expf(p1 - m)));
  }
}

template <typename T>
__global__ void ctc_grad(const T* __restrict__ x, const float* __restrict__ lse, const int* __restrict__ labels,
                         const int* __restrict__ lens, const float* __restrict__ ab, const float* __restrict__ loss,
                         T* __restrict__ grad, int rows, int frames, int V, int U) {
  __shared__ float seen[1024];
  const int b = blockIdx.y, t = blockIdx.x, W = 2 * U + 1, S = 2 * lens[b] + 1;
  for (int v = threadIdx.x; v < V; v += blockDim.x) seen[v] = 0.f;
  __syncthreads();
  const long f = static_cast<long>(b) * frames + t;
  const float l = lse[f], z = loss[b];
  const float *al = ab + f * W, *be = ab + (static_cast<long>(rows) * frames + f) * W;
  for (int s = threadIdx.x; s < S; s += blockDim.x) {
    const int k = s & 1 ? labels[b * U + s / 2] : 0;
    const float p = al[s] + be[s] - (to_f(x[f * V + k]) - l) + z;
    if (p > -30.f && al[s] > -1e29f && be[s] > -1e29f) atomicAdd(&seen[k], __expf(p));
  }
  __syncthreads();
  const bool fits = al[S - 1] > -1e29f || be[S - 1] > -1e29f || z != 0.f;
  for (int v = threadIdx.x; v < V; v += blockDim.x)
    grad[f * V + v] = from_f<T>(z != 0.f && fits ? __expf(to_f(x[f * V + v]) - l) - seen[v] : 0.f);
}

}  // namespace

extern "C" int sw_ctc(const void* x, const int* labels, const int* lens, float* lse, float* ab, float* loss, void* grad, int rows,
                      int frames, int V, int U, int half, Stream stream) {
  const int W = 2 * U + 1, block = (W + 31) / 32 * 32;
  if (block > 1024 || V > 1024) return -1;
  BY_TYPE(half, LAUNCH(ctc_lse<T>, dim3((rows * frames + 3) / 4), 128, stream, (const T*)x, lse, rows * frames, V));
  BY_TYPE(half, LAUNCH(ctc_walk<T>, dim3(rows, 2), block, stream, (const T*)x, (const float*)lse, labels, lens, ab, loss, rows,
                       frames, V, U));
  BY_TYPE(half, LAUNCH(ctc_grad<T>, dim3(frames, rows), 64, stream, (const T*)x, (const float*)lse, labels, lens,
                       (const float*)ab, (const float*)loss, (T*)grad, rows, frames, V, U));
  return LAST_ERROR();
}
