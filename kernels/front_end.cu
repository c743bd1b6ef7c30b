#include "kernels/device_math.cuh"
#include "kernels/front_end.cuh"
#include "kernels/launch.cuh"

namespace sidewinder::cuda {
namespace {

constexpr int kHalf = 256;             // a real FFT of 512 samples is a complex one of 256
constexpr int kFeatureWarps = 8;       // a block
constexpr int kFeaturesPerBlock = 32;  // one warp a frame
constexpr int kRadixPitch = 36;  // from one of the eight 32-point transforms to the next: no bank conflicts

// Sample i of the segment's waiting tail and fresh samples.
__device__ inline float sample_at(const DeviceWave& wave, const WaveSegment& segment, const float* tail,
                                  int i) {
  if (i < segment.tail) return tail[i];
  i -= segment.tail;
  if (i >= segment.pcm_samples) return 0.0f;
  const std::int64_t at = static_cast<std::int64_t>(segment.pcm_offset) + i;
  const auto* pcm = reinterpret_cast<const std::byte*>(wave.counts) + wave.counts->pcm;
  if (wave.counts->float_pcm) return reinterpret_cast<const float*>(pcm)[at];
  return static_cast<float>(reinterpret_cast<const std::int16_t*>(pcm)[at]) * (1.0f / 32768.0f);
}

__device__ inline float2 operator+(float2 a, float2 b) {
  return {a.x + b.x, a.y + b.y};
}
__device__ inline float2 operator-(float2 a, float2 b) {
  return {a.x - b.x, a.y - b.y};
}
__device__ inline float2 times(float2 a, float2 b) {
  return {a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x};
}
__device__ inline float2 times_minus_i(float2 a) {
  return {a.y, -a.x};
}

// Discrete Fourier transforms of 4 and 8 values, natural order in and out.
__device__ inline void transform4(float2& x0, float2& x1, float2& x2, float2& x3) {
  const float2 s02 = x0 + x2, d02 = x0 - x2, s13 = x1 + x3, d13 = times_minus_i(x1 - x3);
  x0 = s02 + s13;
  x1 = d02 + d13;
  x2 = s02 - s13;
  x3 = d02 - d13;
}
__device__ inline void transform8(float2 (&x)[8]) {
  constexpr float kRoot = 0.70710678f;
  float2 even[4], odd[4];
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    even[j] = x[j] + x[j + 4];
    odd[j] = x[j] - x[j + 4];
  }
  odd[1] = {kRoot * (odd[1].x + odd[1].y), kRoot * (odd[1].y - odd[1].x)};
  odd[2] = times_minus_i(odd[2]);
  odd[3] = {kRoot * (odd[3].y - odd[3].x), -kRoot * (odd[3].x + odd[3].y)};
  transform4(even[0], even[1], even[2], even[3]);
  transform4(odd[0], odd[1], odd[2], odd[3]);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    x[2 * j] = even[j];
    x[2 * j + 1] = odd[j];
  }
}

// Place of bin k in the finished spectrum, spread over the banks.
__device__ inline int place(int k) {
  return k + (k >> 4) * 4;
}
constexpr int kSpectrum = kHalf + kHalf / 16 * 4;

// 256 complex values, one warp: lane l brings values l, l + 32, ...; the spectrum ends up in z at place(k).
// 256 = 8 x 8 x 4, decimation in frequency (Van Loan, Computational Frameworks for the FFT, 1992, chapter 1).
// twiddles: exp(-2 pi i k / 512)
__device__ inline void transform256(float2 (&x)[8], float2* z, const float2* twiddles, int lane) {
  transform8(x);
#pragma unroll
  for (int k = 0; k < 8; ++k) z[k * kRadixPitch + lane] = times(x[k], twiddles[2 * lane * k]);
  __syncwarp();
  const int first = lane / 4, q = lane % 4;
#pragma unroll
  for (int m = 0; m < 8; ++m) x[m] = z[first * kRadixPitch + q + 4 * m];
  transform8(x);
#pragma unroll
  for (int p = 0; p < 8; ++p) z[first * kRadixPitch + q + 4 * p] = times(x[p], twiddles[16 * q * p]);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 8; ++i) x[i] = z[first * kRadixPitch + 8 * q + i];
  transform4(x[0], x[1], x[2], x[3]);
  transform4(x[4], x[5], x[6], x[7]);
  __syncwarp();
#pragma unroll
  for (int i = 0; i < 8; ++i) z[place(first + 8 * (2 * q + i / 4) + 64 * (i % 4))] = x[i];
  __syncwarp();
}

// Energy of bin k of the real transform, 0 to 256, out of the complex one of even and odd samples.
__device__ inline float bin_power(const float2* z, const float2* twiddles, int k) {
  if (k == 0 || k == kHalf) {
    const float sum = k == 0 ? z[0].x + z[0].y : z[0].x - z[0].y;
    return sum * sum;
  }
  const float2 a = z[place(k)], b = z[place(kHalf - k)], w = twiddles[k];
  const float2 even = {0.5f * (a.x + b.x), 0.5f * (a.y - b.y)};
  const float2 odd = {0.5f * (a.y + b.y), 0.5f * (b.x - a.x)};
  const float2 sum = even + times(odd, w);
  return sum.x * sum.x + sum.y * sum.y;
}

template <typename T>
__global__ void __launch_bounds__(kFeatureWarps* kWarp)
    features_kernel(DeviceWave wave, FeatureTables tables, FrontState layout, T* features) {
  __shared__ float window[2 * kHalf];
  __shared__ float2 twiddles[2 * kHalf];
  __shared__ __align__(16) float2 spectra[kFeatureWarps][kSpectrum];
  __shared__ float powers[kFeatureWarps][kHalf + 8];
  const int mels = tables.n_mels, thread = threadIdx.x, lane = thread % kWarp, warp = thread / kWarp;
  for (int i = thread; i < 2 * kHalf; i += blockDim.x) {
    window[i] = i < tables.window_length ? tables.window[i] : 0.0f;
    twiddles[i] = tables.twiddles[i];
  }
  wait_for_kernels_before();
  if (static_cast<int>(blockIdx.x) >= wave.counts->segments) return;
  const WaveSegment segment = wave.segments[blockIdx.x];
  const float* state = wave.states + segment.slot * wave.state_size;
  T* region = features + static_cast<std::int64_t>(4 * segment.stem_base + 2 * segment.conv1_kept) * mels;
  if (blockIdx.y == 0)
    for (int i = thread; i < segment.features_kept * mels; i += blockDim.x)
      region[i] = from_float<T>(state[layout.features + i]);
  const int begin = blockIdx.y * kFeaturesPerBlock;
  if (begin >= segment.features_new) return;

  __syncthreads();
  const int end = min(begin + kFeaturesPerBlock, segment.features_new);
  float2* z = spectra[warp];
  float* power = powers[warp];
  for (int frame = begin + warp; frame < end; frame += kFeatureWarps) {
    const int first = frame * tables.hop_length;
    float2 x[8];  // even samples are real parts, odd ones imaginary
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int n = 2 * (lane + kWarp * j);
      x[j] = {0.0f, 0.0f};
      if (n < tables.window_length)
        x[j].x = sample_at(wave, segment, state + layout.samples, first + n) * window[n];
      if (n + 1 < tables.window_length)
        x[j].y = sample_at(wave, segment, state + layout.samples, first + n + 1) * window[n + 1];
    }
    transform256(x, z, twiddles, lane);
    for (int k = lane; k <= kHalf; k += kWarp) power[k] = bin_power(z, twiddles, k);
    __syncwarp();
    T* out = region + static_cast<std::int64_t>(segment.features_kept + frame) * mels;
    for (int m = lane; m < mels; m += kWarp) {
      const int start = tables.mel_start[m], count = tables.mel_start[m + 1] - start;
      const float* from = power + tables.mel_first[m];
      float energy = 0.0f;
      for (int i = 0; i < count; ++i) energy = fmaf(tables.mel_weights[start + i], from[i], energy);
      out[m] = from_float<T>((logf(energy + tables.log_floor) - tables.mean[m]) * tables.inv_std[m]);
    }
    __syncwarp();
  }
}

template <typename T>
__global__ void turn_over_kernel(DeviceWave wave, FrontState layout, const T* features, T* conv1) {
  wait_for_kernels_before();
  if (static_cast<int>(blockIdx.x) >= wave.counts->segments) return;
  const WaveSegment& segment = wave.segments[blockIdx.x];
  float* state = wave.states + segment.slot * wave.state_size;
  T* kept = conv1 + static_cast<std::int64_t>(2 * segment.stem_base) * layout.d_model;
  for (int i = threadIdx.x; i < segment.conv1_kept * layout.d_model; i += blockDim.x)
    kept[i] = from_float<T>(state[layout.conv1 + i]);
  const int left = segment.features_kept + segment.features_new - 2 * segment.conv1_new;
  const T* rest = features + static_cast<std::int64_t>(4 * segment.stem_base + 2 * segment.conv1_kept +
                                                       2 * segment.conv1_new) *
                                 layout.n_mels;
  for (int i = threadIdx.x; i < 2 * layout.n_mels; i += blockDim.x)
    state[layout.features + i] = i < left * layout.n_mels ? to_float(rest[i]) : 0.0f;
}

constexpr int kLookWarps = 8;

template <typename T>
__global__ void __launch_bounds__(kLookWarps* kWarp)
    look_ahead_kernel(DeviceWave wave, FrontState layout, const float* stem, const float* weight,
                      const float* bias, const float* norm, float eps, float* x, T* normed,
                      std::int32_t* row_segment) {
  wait_for_kernels_before();
  if (static_cast<int>(blockIdx.x) >= wave.counts->segments) return;
  const WaveSegment& segment = wave.segments[blockIdx.x];
  const int lane = threadIdx.x % kWarp, row = blockIdx.y * kLookWarps + threadIdx.x / kWarp;
  if (row >= segment.rows) return;
  const int d = layout.d_model;
  const float* waiting = wave.states + segment.slot * wave.state_size + layout.lookahead;
  const float* fresh = stem + static_cast<std::int64_t>(segment.stem_base) * d;
  auto stem_row = [&](int j, int c) -> float4 {
    if (j < segment.stem_kept) return load4(waiting + j * d + c);
    j -= segment.stem_kept;
    if (j < segment.stem_new) return load4(fresh + static_cast<std::int64_t>(j) * d + c);
    return {0.0f, 0.0f, 0.0f, 0.0f};  // past the stream's end
  };
  const std::int64_t out = static_cast<std::int64_t>(segment.first_row + row) * d;
  for (int c = 4 * lane; c < d; c += 4 * kWarp) {
    float4 sum = stem_row(row, c);
    if (layout.lookahead_rows > 0) {
      const float4 b = load4(bias + c);
      sum = {sum.x + b.x, sum.y + b.y, sum.z + b.z, sum.w + b.w};
      for (int k = 0; k <= layout.lookahead_rows; ++k) {
        const float4 w = load4(weight + k * d + c), v = stem_row(row + k, c);
        sum = {fmaf(w.x, v.x, sum.x), fmaf(w.y, v.y, sum.y), fmaf(w.z, v.z, sum.z), fmaf(w.w, v.w, sum.w)};
      }
    }
    store4(x + out + c, sum);
  }
  const float scale = rms_scale(lane, d, eps, [&](int c) { return load4(x + out + c); });
  for (int c = 4 * lane; c < d; c += 4 * kWarp)
    store4(normed + out + c, scaled(load4(x + out + c), scale, load4(norm + c)));
  if (lane == 0) row_segment[segment.first_row + row] = static_cast<std::int32_t>(blockIdx.x);
}

constexpr int kSaveThreads = 512;  // at least window_length

template <typename T>
__global__ void __launch_bounds__(kSaveThreads)
    save_kernel(DeviceWave wave, FrontState layout, const T* conv1, const float* stem) {
  wait_for_kernels_before();
  if (static_cast<int>(blockIdx.x) >= wave.counts->segments) return;
  const WaveSegment segment = wave.segments[blockIdx.x];
  float* state = wave.states + segment.slot * wave.state_size;
  const int thread = threadIdx.x, d = layout.d_model;

  const int consumed = segment.features_new * layout.hop_length;
  const int waiting = segment.tail + segment.fresh - consumed;
  float sample = 0.0f;
  if (thread < waiting) sample = sample_at(wave, segment, state + layout.samples, consumed + thread);
  __syncthreads();  // the old tail has been read
  if (thread < layout.window_length) state[layout.samples + thread] = sample;

  const int left = segment.conv1_kept + segment.conv1_new - 2 * segment.stem_new;
  const T* rest = conv1 + static_cast<std::int64_t>(2 * segment.stem_base + 2 * segment.stem_new) * d;
  for (int i = thread; i < 2 * d; i += kSaveThreads)
    state[layout.conv1 + i] = i < left * d ? to_float(rest[i]) : 0.0f;

  // Rows move down, oldest first, each channel in one thread: a row is read before it is written over.
  const int first = segment.stem_kept + segment.stem_new - segment.stem_left;
  float* lines = state + layout.lookahead;
  const float* fresh = stem + static_cast<std::int64_t>(segment.stem_base) * d;
  for (int c = thread; c < d; c += kSaveThreads)
    for (int j = 0; j < layout.lookahead_rows; ++j) {
      float value = 0.0f;
      if (const int from = first + j; j < segment.stem_left)
        value = from < segment.stem_kept ? lines[from * d + c]
                                         : fresh[static_cast<std::int64_t>(from - segment.stem_kept) * d + c];
      lines[j * d + c] = value;
    }
}

}  // namespace

template <typename T>
void compute_features(const DeviceWave& wave, const FeatureTables& tables, const FrontState& state,
                      T* features, cudaStream_t stream) {
  const dim3 grid(wave.most_segments, max(1, blocks(wave.most_segment_features, kFeaturesPerBlock)));
  launch(features_kernel<T>, grid, kFeatureWarps * kWarp, 0, stream, wave, tables, state, features);
}

template <typename T>
void turn_over_features(const DeviceWave& wave, const FrontState& state, const T* features, T* conv1,
                        cudaStream_t stream) {
  launch(turn_over_kernel<T>, wave.most_segments, 128, 0, stream, wave, state, features, conv1);
}

template <typename T>
void look_ahead(const DeviceWave& wave, const FrontState& state, const float* stem, const float* weight,
                const float* bias, const float* norm, float eps, float* x, T* normed,
                std::int32_t* row_segment, cudaStream_t stream) {
  const dim3 grid(wave.most_segments, blocks(wave.most_segment_rows, kLookWarps));
  launch(look_ahead_kernel<T>, grid, kLookWarps * kWarp, 0, stream, wave, state, stem, weight, bias, norm,
         eps, x, normed, row_segment);
}

template <typename T>
void save_front_state(const DeviceWave& wave, const FrontState& state, const T* conv1, const float* stem,
                      cudaStream_t stream) {
  launch(save_kernel<T>, wave.most_segments, kSaveThreads, 0, stream, wave, state, conv1, stem);
}

#define SIDEWINDER_INSTANTIATE(T)                                                                          \
  template void compute_features(const DeviceWave&, const FeatureTables&, const FrontState&, T*,           \
                                 cudaStream_t);                                                            \
  template void turn_over_features(const DeviceWave&, const FrontState&, const T*, T*, cudaStream_t);      \
  template void look_ahead(const DeviceWave&, const FrontState&, const float*, const float*, const float*, \
                           const float*, float, float*, T*, std::int32_t*, cudaStream_t);                  \
  template void save_front_state(const DeviceWave&, const FrontState&, const T*, const float*, cudaStream_t);
SIDEWINDER_INSTANTIATE(float)
SIDEWINDER_INSTANTIATE(__half)
SIDEWINDER_INSTANTIATE(__nv_bfloat16)
#undef SIDEWINDER_INSTANTIATE

}  // namespace sidewinder::cuda
