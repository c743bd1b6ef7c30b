// A model's weights as the kernels want them: one block of bytes for the device, and where each tensor lies
// in it. Plain C++.
#pragma once

#include <cstddef>
#include <vector>

#include "kernels/cuda_engine.h"
#include "model/weights.h"

namespace sidewinder::cuda {

// (outputs, inputs) weights of y = x W^T, in float16, bfloat16 or float32; out_proj's and fc2's of a Float8
// model in e4m3 (Micikevicius et al. 2022), each output's times a scale that brings the largest to 448.
//
// Inputs are padded with zeros to a multiple of 64, in e4m3 to 512. Outputs come in groups of 16, padded to
// whole groups. In 16 and 8 bits the rows of a group are dealt out as a tensor core deals its results: row 8
// t + 2 q + b of a group holds output 4 q + 2 t + b, so that a thread (q of four) ends up with four
// consecutive outputs. A gated matrix has its groups interleaved: 16 of the first half, then 16 of the second
// (the gate).
struct PackedMatrix {
  std::size_t offset = 0;  // bytes
  int inputs = 0;          // as stored; a multiple of 8
  int inputs_padded = 0;   // elements from row to row
  int outputs = 0;         // padded
  std::size_t scale = 0;   // (outputs) float32, e4m3 only: what turns an output's sum into its value
};

struct PackedLayer {
  std::size_t norm;  // (d_model) float32, as all that are no matrices
  PackedMatrix in_proj;
  std::size_t conv_weight;  // (d_conv, d_inner)
  std::size_t conv_bias;    // (d_inner)
  PackedMatrix x_proj;
  std::size_t dt_weight;  // (dt_rank, d_inner)
  std::size_t dt_bias;    // (d_inner)
  std::size_t decay;      // (d_state, d_inner): A log2(e)
  std::size_t skip;       // (d_inner): D
  PackedMatrix out_proj;
  std::size_t norm2;  // (d_model), as the rest only with an MLP
  PackedMatrix fc1;   // gated
  PackedMatrix fc2;
};

struct PackedModel {
  ModelConfig config;
  CudaPrecision precision;
  std::vector<std::byte> bytes;

  std::size_t window;            // (window_length): Hann
  std::size_t twiddles;          // (fft_length, 2): exp(-2 pi i k / fft_length)
  std::size_t mel_first;         // (n_mels) int32: first bin of each filter
  std::size_t mel_start;         // (n_mels + 1) int32: first weight of each filter
  std::size_t mel_weights;       // every filter's weights in a row
  std::size_t mean;              // (n_mels)
  std::size_t inv_std;           // (n_mels)
  PackedMatrix conv1;            // inputs (kernel, n_mels): three consecutive feature rows
  std::size_t conv1_bias;        // (d_model)
  PackedMatrix conv2;            // inputs (kernel, d_model)
  std::size_t conv2_bias;        // (d_model)
  std::size_t stem_norm;         // (d_model)
  std::size_t lookahead_weight;  // (lookahead + 1, d_model), only with lookahead
  std::size_t lookahead_bias;    // (d_model)
  std::vector<PackedLayer> layers;
  std::size_t final_norm;  // (d_model)
  PackedMatrix head;
  std::size_t head_bias;  // (outputs of head): -1e30 past the vocabulary
};

// Throws ModelError naming the limit when the kernels don't cover the model's shape.
void check_covered(const ModelConfig& config, CudaPrecision precision);

// Float8 also reads float8.json from the model's folder: of each layer the largest magnitudes that reached
// out_proj and fc2 (model/training/float8.py writes it). Inputs of theirs are e4m3 times a power of two that
// leaves 8 to 16 times as much room below 448; the weights in front of them bring it along: fc1's, and the
// scan's C and D. Throws ModelError: shape, or the file.
PackedModel pack_model(const Model& model, CudaPrecision precision);

}  // namespace sidewinder::cuda
