// The Mamba-1 mixer between its products: causal convolution, and the selective scan (Gu and Dao 2023,
// algorithm 2) with everything that is channel by channel fused in. Functions queue kernels and return.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/front_end.cuh"
#include "kernels/matrix.cuh"

namespace sidewinder::cuda {

struct MixerShape {
  int d_inner;
  int dt_rank;
  std::int64_t conv_state;  // offset in the state: (3, d_inner)
  std::int64_t ssm_state;   // offset in the state: (16, d_inner)
};

// u (rows, d_inner) = SiLU(bias + sum over 4 taps of weight_k in_{-3 + k}). `in` is the left half of uz
// (rows, 2 d_inner); what lies before the wave comes from the state, which the scan renews.
template <typename T>
void convolve(const DeviceWave& wave, const MixerShape& shape, const std::int32_t* row_segment, const T* uz,
              const float* weight, const float* bias, T* u, cudaStream_t stream);

// The same, and with it projection (rows, x_proj.outputs) = u x_proj^T, in one kernel. False, and nothing is
// done, where T is float or a block's rows and x_proj would fill more than half of the shared memory.
template <typename T>
bool convolve_and_project(const DeviceWave& wave, const MixerShape& shape, const std::int32_t* row_segment,
                          const T* uz, const float* weight, const float* bias, const Matrix<T>& x_proj, T* u,
                          float* projection, cudaStream_t stream);

struct ScanWeights {
  const float* dt_weight;  // (dt_rank, d_inner)
  const float* dt_bias;    // (d_inner)
  const float* decay;      // (16, d_inner): A log2(e)
  const float* skip;       // (d_inner): D
};

// dt = softplus(dt_weight projection + dt_bias); h = exp(dt A) h + dt u B; y = (h C + D u) gate, row after
// row; y (rows, d_inner) may be u, or float8. The gate is the right half of uz, through SiLU already.
// projection: (rows, dt_rank + 32): dt before its projection, B, C. h is read and written once a wave; the
// convolution's state is renewed too.
template <typename T, typename Out>
void scan(const DeviceWave& wave, const MixerShape& shape, const ScanWeights& weights, const T* uz,
          const float* projection, const T* u, Out* y, int multiprocessors, cudaStream_t stream);

}  // namespace sidewinder::cuda
