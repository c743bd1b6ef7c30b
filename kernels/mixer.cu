#include <type_traits>

#include "kernels/gemm.cuh"
#include "kernels/mixer.cuh"

namespace sidewinder::cuda {
namespace {

constexpr int kTaps = 4;
constexpr int kStates = 16;
constexpr int kThreads = 128;
constexpr int kConvRows = 8;  // rows a thread works through with its taps in registers
constexpr int kScanRows = 8;  // rows whose inputs are fetched together

// Weights of four channels' convolution, in registers.
struct ConvTaps {
  float4 bias{}, taps[kTaps]{};
  __device__ void load(const float* weight, const float* bias_of, int d_inner, int c) {
    bias = load4(bias_of + c);
#pragma unroll
    for (int k = 0; k < kTaps; ++k) taps[k] = load4(weight + k * d_inner + c);
  }
};

// SiLU of the convolution for channels c to c + 3 of rows row0 to row0 + rows - 1, rows at most kConvRows:
// give(r, values) for each.
template <typename T, typename Give>
__device__ inline void convolve_rows(const DeviceWave& wave, const MixerShape& shape,
                                     const std::int32_t* row_segment, const T* uz, const ConvTaps& weights,
                                     int row0, int rows, int c, Give&& give) {
  const int e = shape.d_inner;
  float4 own[kConvRows];
#pragma unroll
  for (int r = 0; r < kConvRows; ++r)
    if (r < rows) own[r] = load4(uz + static_cast<std::int64_t>(row0 + r) * 2 * e + c);
  float4 in[kTaps];  // in[kTaps - 1] is the row's own
#pragma unroll
  for (int r = 0; r < kConvRows; ++r) {
    if (r >= rows) return;
    const int row = row0 + r;
    const WaveSegment& segment = wave.segments[row_segment[row]];
    const int t = row - segment.first_row;
    if (r == 0 || t == 0) {
      const float* tail = wave.states + segment.slot * wave.state_size + shape.conv_state + c;
#pragma unroll
      for (int k = 1; k < kTaps; ++k) {
        const int back = t - kTaps + k;
        in[k] = back < 0 ? load4(tail + (kTaps - 1 + back) * e)
                         : load4(uz + static_cast<std::int64_t>(row - kTaps + k) * 2 * e + c);
      }
    }
#pragma unroll
    for (int k = 0; k < kTaps - 1; ++k) in[k] = in[k + 1];
    in[kTaps - 1] = own[r];
    float4 sum = weights.bias;
#pragma unroll
    for (int k = 0; k < kTaps; ++k) {
      const float4 w = weights.taps[k];
      sum = {fmaf(w.x, in[k].x, sum.x), fmaf(w.y, in[k].y, sum.y), fmaf(w.z, in[k].z, sum.z),
             fmaf(w.w, in[k].w, sum.w)};
    }
    give(r, float4{silu(sum.x), silu(sum.y), silu(sum.z), silu(sum.w)});
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    convolve_kernel(DeviceWave wave, MixerShape shape, const std::int32_t* row_segment, const T* uz,
                    const float* weight, const float* bias, T* u) {
  const int e = shape.d_inner;
  const int row0 = blockIdx.x * kConvRows, c = 4 * (blockIdx.y * kThreads + threadIdx.x);
  // Counts and segments are older than the kernel before this one, so they may be read ahead of the wait.
  const int rows = min(kConvRows, wave.counts->rows - row0);
  ConvTaps weights;
  if (rows > 0 && c < e) weights.load(weight, bias, e, c);
  wait_for_kernels_before();
  if (rows <= 0 || c >= e) return;
  convolve_rows(wave, shape, row_segment, uz, weights, row0, rows, c,
                [&](int r, float4 value) { store4(u + static_cast<std::int64_t>(row0 + r) * e + c, value); });
}

constexpr int kProjectRows = 32;  // a block
constexpr int kProjectThreads = 256;

template <typename T>
int project_bytes(const MixerShape& shape, const Matrix<T>& x_proj) {
  return (kProjectRows + x_proj.outputs) * shape.d_inner * static_cast<int>(sizeof(T));
}

// Two blocks a multiprocessor. The convolution of a block's rows goes to `u`, and to shared memory as
// x_proj's input. The sums of x_proj have the order that kernels/gemm.cuh's tiles give them.
template <typename T>
__global__ void __launch_bounds__(kProjectThreads, 2)
    convolve_and_project_kernel(DeviceWave wave, MixerShape shape, const std::int32_t* row_segment,
                                const T* uz, const float* weight, const float* bias, Matrix<T> x_proj, T* u,
                                float* projection) {
  extern __shared__ __align__(128) unsigned char shared_bytes[];
  const int e = shape.d_inner, steps = e / kStepK, outputs = x_proj.outputs;
  T* a = reinterpret_cast<T*>(shared_bytes);  // (steps, kProjectRows, kStepK)
  T* b = a + steps * kProjectRows * kStepK;   // (steps, outputs, kStepK)
  const int row0 = blockIdx.x * kProjectRows, all_rows = wave.counts->rows;
  const int rows = min(kProjectRows, all_rows - row0);
  if (rows > 0) {
    for (int i = threadIdx.x; i < steps * outputs * 8; i += kProjectThreads) {
      const int chunk = i % 8, out = i / 8 % outputs, step = i / 8 / outputs;
      copy_async(b + step * outputs * kStepK + shared_offset(out, chunk),
                 x_proj.weights + out * x_proj.inputs_padded + step * kStepK + chunk * 8, true);
    }
    commit_copies();
  }
  constexpr int kQuadThreads = kProjectThreads / 2;  // side by side over the channels
  const int piece = threadIdx.x / kQuadThreads * kConvRows;
  const int first_c = 4 * (threadIdx.x % kQuadThreads);
  ConvTaps weights;
  if (rows > 0 && first_c < e) weights.load(weight, bias, e, first_c);
  wait_for_kernels_before();
  if (rows <= 0) return;
  for (int c = first_c; c < e; c += 4 * kQuadThreads) {
    if (c != first_c) weights.load(weight, bias, e, c);
    T* column = a + c / kStepK * kProjectRows * kStepK + c % 8;
    for (int first = piece; first < rows; first += 2 * kConvRows)
      convolve_rows(wave, shape, row_segment, uz, weights, row0 + first, min(kConvRows, rows - first), c,
                    [&](int r, float4 value) {
                      store4(u + static_cast<std::int64_t>(row0 + first + r) * e + c, value);
                      store4(column + shared_offset(first + r, c % kStepK / 8), value);
                    });
  }
  wait_copies<0>();
  __syncthreads();
  const int lane = threadIdx.x % kWarp, tiles = kProjectRows / 16 * (outputs / 16);
  for (int tile = threadIdx.x / kWarp; tile < tiles; tile += kProjectThreads / kWarp) {
    const int m = tile % (kProjectRows / 16) * 16, n = tile / (kProjectRows / 16) * 16;
    if (m >= rows) continue;
    float sums[1][2][4] = {};
    for (int step = 0; step < steps; ++step)
      multiply_step<SmallNarrowTile>(a + step * kProjectRows * kStepK, b + step * outputs * kStepK, m, n,
                                     lane, sums);
    hand_out(sums, row0 + m, n, all_rows, outputs, StoreFloat{projection, outputs});
  }
}

// Blocks that a multiprocessor should hold; bounds the registers.
constexpr int resident_blocks(int rank) {
  return rank <= 32 ? 4 : 3;
}

// What the rows of one piece of a segment need, on its way through shared memory.
template <typename T, int kRank>
struct ScanStage {
  static constexpr int kProjected = kRank + 2 * kStates;
  alignas(16) float state[kStates][kThreads];           // h before the segment's first row
  alignas(16) T inputs[kScanRows][kThreads];            // u
  alignas(16) T gates[kScanRows][kThreads];             // SiLU(z)
  alignas(16) T last[kTaps - 1][kThreads];              // the convolution's inputs at the segment's end
  alignas(16) float projection[kScanRows][kProjected];  // dt before its projection, B, C
};

// One thread a channel, its h, A and dt weights in registers. A block walks through segments in pieces of up
// to kScanRows rows; the next piece is copied to shared memory while this one is worked on.
template <typename T, typename Out, int kRank>
__global__ void __launch_bounds__(kThreads, resident_blocks(kRank))
    scan_kernel(DeviceWave wave, MixerShape shape, ScanWeights weights, const T* uz, const float* projection,
                const T* u, Out* out) {
  using Stage = ScanStage<T, kRank>;
  constexpr int kChunk = 16 / sizeof(T), kChunks = kThreads / kChunk;  // 16-byte copies of a row
  __shared__ Stage stages[2];
  const int e = shape.d_inner, c0 = blockIdx.x * kThreads, c = c0 + threadIdx.x;
  const int segments = wave.counts->segments;

  // State and uz are older than the kernel before this one: they may be fetched before the wait.
  auto fetch_old = [&](Stage& stage, const WaveSegment& segment, int t0) {
    const int count = min(kScanRows, segment.rows - t0);
    const std::int64_t row0 = segment.first_row + t0;
    if (t0 == 0) {
      const float* ssm = wave.states + segment.slot * wave.state_size + shape.ssm_state + c0;
      for (int i = threadIdx.x; i < kStates * kThreads / 4; i += kThreads) {
        const int n = i / (kThreads / 4), chunk = i % (kThreads / 4);
        copy_async(&stage.state[n][4 * chunk], ssm + n * e + 4 * chunk, true);
      }
    }
    for (int i = threadIdx.x; i < count * kChunks; i += kThreads) {
      const int t = i / kChunks, at = i % kChunks * kChunk;
      copy_async(&stage.gates[t][at], uz + (row0 + t) * 2 * e + e + c0 + at, true);
    }
    if (t0 + count < segment.rows) return;
    for (int i = threadIdx.x; i < (kTaps - 1) * kChunks; i += kThreads) {
      const int k = i / kChunks, at = i % kChunks * kChunk, t = segment.rows - (kTaps - 1) + k;
      if (t >= 0)
        copy_async(&stage.last[k][at],
                   uz + static_cast<std::int64_t>(segment.first_row + t) * 2 * e + c0 + at, true);
    }
  };
  auto fetch_new = [&](Stage& stage, const WaveSegment& segment, int t0) {
    const int count = min(kScanRows, segment.rows - t0);
    const std::int64_t row0 = segment.first_row + t0;
    for (int i = threadIdx.x; i < count * kChunks; i += kThreads) {
      const int t = i / kChunks, at = i % kChunks * kChunk;
      copy_async(&stage.inputs[t][at], u + (row0 + t) * e + c0 + at, true);
    }
    const float* from = projection + row0 * Stage::kProjected;
    for (int i = threadIdx.x; i < count * Stage::kProjected / 4; i += kThreads)
      copy_async(&stage.projection[0][0] + 4 * i, from + 4 * i, true);
  };
  auto first_with_rows = [&](int index) {
    while (index < segments && wave.segments[index].rows == 0) index += gridDim.y;
    return index;
  };

  int index = first_with_rows(blockIdx.y), t0 = 0, current = 0;
  if (index < segments) fetch_old(stages[0], wave.segments[index], 0);
  float decay[kStates], dt_weight[kRank], h[kStates];
#pragma unroll
  for (int n = 0; n < kStates; ++n) decay[n] = weights.decay[n * e + c];
#pragma unroll
  for (int r = 0; r < kRank; ++r) dt_weight[r] = weights.dt_weight[r * e + c];
  const float dt_bias = weights.dt_bias[c], skip = weights.skip[c];
  wait_for_kernels_before();
  if (index < segments) fetch_new(stages[0], wave.segments[index], 0);
  commit_copies();

  while (index < segments) {
    const WaveSegment& segment = wave.segments[index];
    const int rows = segment.rows, count = min(kScanRows, rows - t0);
    const std::int64_t row0 = segment.first_row + t0;
    const bool last = t0 + count == rows;
    const int next = last ? first_with_rows(index + gridDim.y) : index, next_t0 = last ? 0 : t0 + kScanRows;
    if (next < segments) {
      fetch_old(stages[1 - current], wave.segments[next], next_t0);
      fetch_new(stages[1 - current], wave.segments[next], next_t0);
    }
    commit_copies();
    wait_copies<1>();
    __syncthreads();  // this piece is there for all
    const Stage& stage = stages[current];
    if (t0 == 0) {
#pragma unroll
      for (int n = 0; n < kStates; ++n) h[n] = stage.state[n][threadIdx.x];
    }
#pragma unroll 2
    for (int t = 0; t < count; ++t) {
      const float* row = stage.projection[t];
      float low_dt = dt_bias;
#pragma unroll
      for (int r = 0; r < kRank; r += 4) {
        const float4 low = load4(row + r);
        low_dt = fmaf(dt_weight[r], low.x, low_dt);
        low_dt = fmaf(dt_weight[r + 1], low.y, low_dt);
        low_dt = fmaf(dt_weight[r + 2], low.z, low_dt);
        low_dt = fmaf(dt_weight[r + 3], low.w, low_dt);
      }
      const float dt = softplus(low_dt);
      const float input = to_float(stage.inputs[t][threadIdx.x]), dt_input = dt * input;
      float y = skip * input;
#pragma unroll
      for (int n = 0; n < kStates; n += 4) {
        const float4 b = load4(row + kRank + n), read = load4(row + kRank + kStates + n);
        h[n] = fmaf(exp2_fast(dt * decay[n]), h[n], dt_input * b.x);
        h[n + 1] = fmaf(exp2_fast(dt * decay[n + 1]), h[n + 1], dt_input * b.y);
        h[n + 2] = fmaf(exp2_fast(dt * decay[n + 2]), h[n + 2], dt_input * b.z);
        h[n + 3] = fmaf(exp2_fast(dt * decay[n + 3]), h[n + 3], dt_input * b.w);
        y = fmaf(h[n], read.x, y);
        y = fmaf(h[n + 1], read.y, y);
        y = fmaf(h[n + 2], read.z, y);
        y = fmaf(h[n + 3], read.w, y);
      }
      out[(row0 + t) * e + c] = from_float<Out>(y * to_float(stage.gates[t][threadIdx.x]));
    }
    if (last) {
      float* state = wave.states + segment.slot * wave.state_size;
#pragma unroll
      for (int n = 0; n < kStates; ++n) __stcs(state + shape.ssm_state + n * e + c, h[n]);
      // The convolution's last inputs, oldest first; with fewer than three rows the state's own move down.
      float* tail = state + shape.conv_state + c;
#pragma unroll
      for (int k = 0; k < kTaps - 1; ++k) {
        const int t = rows - (kTaps - 1) + k;
        tail[k * e] = t < 0 ? tail[(kTaps - 1 + t) * e] : to_float(stage.last[k][threadIdx.x]);
      }
    }
    __syncthreads();  // all are done with the stage that the next round fills
    index = next;
    t0 = next_t0;
    current = 1 - current;
  }
}

}  // namespace

template <typename T>
void convolve(const DeviceWave& wave, const MixerShape& shape, const std::int32_t* row_segment, const T* uz,
              const float* weight, const float* bias, T* u, cudaStream_t stream) {
  const dim3 grid(blocks(wave.most_rows, kConvRows), blocks(shape.d_inner, 4 * kThreads));
  launch(convolve_kernel<T>, grid, kThreads, 0, stream, wave, shape, row_segment, uz, weight, bias, u);
}

template <typename T>
bool convolve_and_project(const DeviceWave& wave, const MixerShape& shape, const std::int32_t* row_segment,
                          const T* uz, const float* weight, const float* bias, const Matrix<T>& x_proj, T* u,
                          float* projection, cudaStream_t stream) {
  if constexpr (std::is_same_v<T, float>) {
    return false;
  } else {
    const int shared = project_bytes(shape, x_proj);
    if (shared > kSharedLimit / 2) return false;
    allow_shared<convolve_and_project_kernel<T>>(kSharedLimit / 2);
    launch(convolve_and_project_kernel<T>, blocks(wave.most_rows, kProjectRows), kProjectThreads, shared,
           stream, wave, shape, row_segment, uz, weight, bias, x_proj, u, projection);
    return true;
  }
}

template <typename T, typename Out>
void scan(const DeviceWave& wave, const MixerShape& shape, const ScanWeights& weights, const T* uz,
          const float* projection, const T* u, Out* y, int multiprocessors, cudaStream_t stream) {
  auto launch_rank = [&]<int kRank>(std::integral_constant<int, kRank>) {
    // Blocks that fit at once share the segments evenly: each loads its weights but once.
    const int across = shape.d_inner / kThreads;
    const int resident = blocks(resident_blocks(kRank) * multiprocessors, across);
    const int rounds = blocks(wave.most_segments, resident);
    const dim3 grid(across, blocks(wave.most_segments, rounds));
    launch(scan_kernel<T, Out, kRank>, grid, kThreads, 0, stream, wave, shape, weights, uz, projection, u, y);
  };
  if (shape.dt_rank == 16)
    launch_rank(std::integral_constant<int, 16>{});
  else if (shape.dt_rank == 32)
    launch_rank(std::integral_constant<int, 32>{});
  else if (shape.dt_rank == 48)
    launch_rank(std::integral_constant<int, 48>{});
  else
    launch_rank(std::integral_constant<int, 64>{});
}

#define SIDEWINDER_INSTANTIATE_SCAN(T, Out)                                                            \
  template void scan(const DeviceWave&, const MixerShape&, const ScanWeights&, const T*, const float*, \
                     const T*, Out*, int, cudaStream_t)
#define SIDEWINDER_INSTANTIATE(T)                                                                           \
  template void convolve(const DeviceWave&, const MixerShape&, const std::int32_t*, const T*, const float*, \
                         const float*, T*, cudaStream_t);                                                   \
  template bool convolve_and_project(const DeviceWave&, const MixerShape&, const std::int32_t*, const T*,   \
                                     const float*, const float*, const Matrix<T>&, T*, float*,              \
                                     cudaStream_t);                                                         \
  SIDEWINDER_INSTANTIATE_SCAN(T, T)
SIDEWINDER_INSTANTIATE(float);
SIDEWINDER_INSTANTIATE(__half);
SIDEWINDER_INSTANTIATE(__nv_bfloat16);
SIDEWINDER_INSTANTIATE_SCAN(__half, __nv_fp8_e4m3);
#undef SIDEWINDER_INSTANTIATE
#undef SIDEWINDER_INSTANTIATE_SCAN

}  // namespace sidewinder::cuda
