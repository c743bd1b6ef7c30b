// Rows of training audio out of one long pool of int16 samples: every row is a few stretches of the pool, each played at a
// rate of its own through a windowed sinc (above 1: faster and higher) and at a gain of its own, laid one after another. `fade`: samples over
// which a stretch comes and goes, by straight lines: two that lie so far over each other add up to one.
#include "launch.h"

namespace {

constexpr float kHalf = 10.f;  // zero crossings of the sinc on either side

__global__ void mix_rows(const int16_t* __restrict__ pool, const long* __restrict__ src, const int* __restrict__ slen,
                         const int* __restrict__ dst, const int* __restrict__ dlen, const int* __restrict__ fade,
                         const float* __restrict__ rate, const float* __restrict__ gain, float* __restrict__ out, int samples,
                         int stretches) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, r = blockIdx.y;
  if (i >= samples) return;
  float sum = 0.f;
  for (int m = r * stretches; m < (r + 1) * stretches; ++m) {
    const int k = i - dst[m];
    if (k < 0 || k >= dlen[m]) continue;
    const float q = rate[m], c = q > 1.f ? 1.f / q : 1.f;
    const double pos = static_cast<double>(k) * q;
    const int mid = static_cast<int>(pos);
    const float frac = static_cast<float>(pos - mid);
    const int reach = static_cast<int>(kHalf / c) + 1;
    const int16_t* p = pool + src[m];
    float v = 0.f;
    for (int j = max(-reach, -mid); j <= min(reach, slen[m] - 1 - mid); ++j) {
      const float x = (frac - j) * c;
      if (x <= -kHalf || x >= kHalf) continue;
      const float w = 0.5f + 0.5f * cospif(x / kHalf);
      const float s = x > -1e-4f && x < 1e-4f ? 1.f : sinpif(x) / (3.14159265f * x);
      v += static_cast<float>(p[mid + j]) * w * s;
    }
    if (fade[m] > 0) v *= fminf(1.f, (min(k, dlen[m] - 1 - k) + 0.5f) / fade[m]);
    sum += v * c * gain[m] * (1.f / 32768.f);
  }
  out[static_cast<long>(r) * samples + i] = sum;
}

}  // namespace

extern "C" int sw_mix(const int16_t* pool, const long* src, const int* slen, const int* dst, const int* dlen, const int* fade,
                      const float* rate, const float* gain, float* out, int rows, int samples, int stretches, Stream stream) {
  LAUNCH(mix_rows, dim3((samples + 255) / 256, rows), 256, stream, pool, src, slen, dst, dlen, fade, rate, gain, out, samples,
         stretches);
  return LAST_ERROR();
}
