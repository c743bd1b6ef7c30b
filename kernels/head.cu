#include "kernels/device_math.cuh"
#include "kernels/head.cuh"
#include "kernels/launch.cuh"

namespace sidewinder::cuda {
namespace {

constexpr int kWarps = 8;  // a block, one a row

__device__ inline int row_of_warp() {
  return blockIdx.x * kWarps + threadIdx.x / kWarp;
}

// Frame of the step that a row of the wave is.
__device__ inline std::int64_t frame_of_row(const DeviceWave& wave, const std::int32_t* row_segment,
                                            int row) {
  const WaveSegment& segment = wave.segments[row_segment[row]];
  return static_cast<std::int64_t>(segment.out_row) + row - segment.first_row;
}

template <typename T>
__device__ inline void norm_row(const float* x, const float* weight, int width, float eps, T* out) {
  const int lane = threadIdx.x % kWarp;
  const float scale = rms_scale(lane, width, eps, [&](int c) { return load4(x + c); });
  for (int c = 4 * lane; c < width; c += 4 * kWarp)
    store4(out + c, scaled(load4(x + c), scale, load4(weight + c)));
}

template <typename T>
__global__ void norm_kernel(const float* x, const float* weight, int width, float eps, T* normed,
                            const std::int32_t* rows) {
  const std::int64_t row = row_of_warp();
  wait_for_kernels_before();
  if (row < *rows) norm_row(x + row * width, weight, width, eps, normed + row * width);
}

__global__ void encodings_kernel(DeviceWave wave, const std::int32_t* row_segment, const float* x,
                                 const float* weight, int width, float eps, float* encodings) {
  const int row = row_of_warp();
  wait_for_kernels_before();
  if (row >= wave.counts->rows) return;
  norm_row(x + static_cast<std::int64_t>(row) * width, weight, width, eps,
           encodings + frame_of_row(wave, row_segment, row) * width);
}

__global__ void tokens_kernel(DeviceWave wave, const std::int32_t* row_segment, const float* logits,
                              const float* bias, int width, int vocab, HeadOutputs out) {
  const int row = row_of_warp(), lane = threadIdx.x % kWarp;
  wait_for_kernels_before();
  if (row >= wave.counts->rows) return;
  const float* values = logits + static_cast<std::int64_t>(row) * width;
  float most = -3e38f;
  int token = 0;
  for (int c = lane; c < vocab; c += kWarp) {
    const float value = values[c] + bias[c];
    if (value > most) {
      most = value;
      token = c;
    }
  }
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(0xffffffffu, most, step);
    const int other_token = __shfl_xor_sync(0xffffffffu, token, step);
    if (other > most || (other == most && other_token < token)) {
      most = other;
      token = other_token;
    }
  }
  float sum = 0.0f;
  for (int c = lane; c < vocab; c += kWarp) sum += expf(values[c] + bias[c] - most);
  const float log_sum = logf(warp_sum(sum));
  const std::int64_t frame = frame_of_row(wave, row_segment, row);
  if (lane == 0) {
    out.tokens[frame] = token;
    reinterpret_cast<float*>(out.tokens + wave.counts->scores)[frame] = -log_sum;
  }
  if (out.log_probs == nullptr) return;
  for (int c = lane; c < vocab; c += kWarp)
    out.log_probs[frame * vocab + c] = values[c] + bias[c] - most - log_sum;
}

}  // namespace

template <typename T>
void rms_norm(const float* x, const float* weight, int width, float eps, T* normed, const std::int32_t* rows,
              int most, cudaStream_t stream) {
  launch(norm_kernel<T>, blocks(most, kWarps), kWarps * kWarp, 0, stream, x, weight, width, eps, normed,
         rows);
}
template void rms_norm(const float*, const float*, int, float, float*, const std::int32_t*, int,
                       cudaStream_t);
template void rms_norm(const float*, const float*, int, float, __half*, const std::int32_t*, int,
                       cudaStream_t);
template void rms_norm(const float*, const float*, int, float, __nv_bfloat16*, const std::int32_t*, int,
                       cudaStream_t);

void read_tokens(const DeviceWave& wave, const std::int32_t* row_segment, const float* logits,
                 const float* bias, int width, int vocab, const HeadOutputs& out, cudaStream_t stream) {
  launch(tokens_kernel, blocks(wave.most_rows, kWarps), kWarps * kWarp, 0, stream, wave, row_segment, logits,
         bias, width, vocab, out);
}

void write_encodings(const DeviceWave& wave, const std::int32_t* row_segment, const float* x,
                     const float* weight, int width, float eps, float* encodings, cudaStream_t stream) {
  launch(encodings_kernel, blocks(wave.most_rows, kWarps), kWarps * kWarp, 0, stream, wave, row_segment, x,
         weight, width, eps, encodings);
}

}  // namespace sidewinder::cuda
