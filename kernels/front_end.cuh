// Samples to encoder input: log-mel features, the stem's row copies around its two products, lookahead. Every
// function queues kernels on the stream and returns; memory is the caller's.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

#include "kernels/wave.h"

namespace sidewinder::cuda {

// A wave on the device (its PCM lies where the counts say), and the numbers that its grids cover.
struct DeviceWave {
  const WaveCounts* counts = nullptr;
  const WaveSegment* segments = nullptr;  // (counts->segments)
  float* states = nullptr;                // (slots, state_size)
  std::int64_t state_size = 0;            // floats
  int most_segments = 0;
  int most_rows = 0;
  int most_stem_rows = 0;
  int most_segment_features = 0;  // of one segment
  int most_segment_rows = 0;
};

struct FeatureTables {
  const float* window;            // (window_length)
  const float2* twiddles;         // (512): exp(-2 pi i k / 512)
  const std::int32_t* mel_first;  // (n_mels)
  const std::int32_t* mel_start;  // (n_mels + 1)
  const float* mel_weights;       // all filters'
  const float* mean;              // (n_mels)
  const float* inv_std;           // (n_mels)
  int window_length;              // samples, at most 512
  int hop_length;                 // samples
  int n_mels;
  float log_floor;
};

// Offsets of StateLayout, and what they hold.
struct FrontState {
  std::int64_t samples;    // (window_length)
  std::int64_t features;   // (2, n_mels)
  std::int64_t conv1;      // (2, d_model)
  std::int64_t lookahead;  // (lookahead, d_model)
  int window_length;
  int hop_length;
  int n_mels;
  int d_model;
  int lookahead_rows;
};

// features: (4 stem rows, n_mels), those kept and the new ones of each segment.
template <typename T>
void compute_features(const DeviceWave& wave, const FeatureTables& tables, const FrontState& state,
                      T* features, cudaStream_t stream);

// Between the two convolutions: puts the kept conv1 rows in front of the new ones, saves the features that
// conv1 still needs. conv1: (2 stem rows, d_model)
template <typename T>
void turn_over_features(const DeviceWave& wave, const FrontState& state, const T* features, T* conv1,
                        cudaStream_t stream);

// x (rows, d_model) = stem + bias + sum over k of weight_k stem_{+k}; normed = rms(x). Also notes each row's
// segment in row_segment (rows). stem: (stem rows, d_model)
template <typename T>
void look_ahead(const DeviceWave& wave, const FrontState& state, const float* stem, const float* weight,
                const float* bias, const float* norm, float eps, float* x, T* normed,
                std::int32_t* row_segment, cudaStream_t stream);

// Saves what the next samples will need of samples, conv1 and stem rows; the rest of these states becomes 0.
template <typename T>
void save_front_state(const DeviceWave& wave, const FrontState& state, const T* conv1, const float* stem,
                      cudaStream_t stream);

}  // namespace sidewinder::cuda
