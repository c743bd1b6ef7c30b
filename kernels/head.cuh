// Norms of whole rows and the best token of each. Functions queue kernels and return.
#pragma once

#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/front_end.cuh"

namespace sidewinder::cuda {

// normed (rows, width) = rms(x (rows, width)); `rows` on the device, at most `most`. In place is fine.
template <typename T>
void rms_norm(const float* x, const float* weight, int width, float eps, T* normed, const std::int32_t* rows,
              int most, cudaStream_t stream);

struct HeadOutputs {
  // (frames of the step) tokens, the lower id of equals; from WaveCounts::scores on as many floats: the
  // natural log of the token's probability
  std::int32_t* tokens;
  float* log_probs;  // (frames of the step, vocab), or null
};

// Reads logits (rows, width; `bias` still to be added) and writes each row to its frame of the step.
void read_tokens(const DeviceWave& wave, const std::int32_t* row_segment, const float* logits,
                 const float* bias, int width, int vocab, const HeadOutputs& out, cudaStream_t stream);

// encodings (frames of the step, width) = rms(x), each row at its frame of the step.
void write_encodings(const DeviceWave& wave, const std::int32_t* row_segment, const float* x,
                     const float* weight, int width, float eps, float* encodings, cudaStream_t stream);

}  // namespace sidewinder::cuda
