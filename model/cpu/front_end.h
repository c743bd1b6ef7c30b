// Samples to encoder input: log-mel, normalisation, strided convolutions, norm, lookahead.
#pragma once

#include <span>
#include <vector>

#include "dsp/log_mel.h"
#include "model/capsule.h"
#include "model/config.h"
#include "model/cpu/linear.h"
#include "model/state_layout.h"
#include "model/weights.h"

namespace sidewinder::cpu {

class FrontEnd {
 public:
  // Working memory of one advance() of up to `rows` rows; one a thread.
  struct Scratch {
    Scratch(const ModelConfig& config, int rows);
    dsp::LogMelScratch log_mel;
    std::vector<float> features;  // (feature frames, n_mels): those kept from before, then the new ones
    std::vector<float> conv1;     // (conv1 frames, d_model): likewise
    std::vector<float> stem;      // (lookahead + rows, d_model): likewise
  };

  FrontEnd(const ModelConfig& config, const Weights& weights, const StateLayout& layout);

  // Takes as many samples off the front of `samples` as can't give more than `most` rows (at least one
  // sample, if any), writes the rows they complete to `rows` (most, d_model) and returns how many.
  int advance(float* state, StreamClock& clock, std::span<const float>& samples, int most, float* rows,
              Scratch& scratch) const noexcept;

  // The stream's end: zeros stand for the future that never came. Up to `lookahead` rows.
  int flush(float* state, const StreamClock& clock, float* rows, Scratch& scratch) const noexcept;

  // Rows that a stream has given so far.
  std::int64_t rows_given(const StreamClock& clock) const noexcept;

 private:
  int look_ahead(float* state, int known, float* rows, Scratch& scratch) const noexcept;

  ModelConfig config_;
  StateLayout layout_;
  dsp::LogMel log_mel_;
  dsp::Framer framer_;
  std::vector<float> mean_, inv_std_;  // (n_mels)
  PackedMatrix conv1_, conv2_;         // inputs (kernel, channels): a window of consecutive rows
  std::vector<float> conv1_bias_, conv2_bias_, norm_;     // (d_model)
  std::vector<float> lookahead_weight_, lookahead_bias_;  // (lookahead + 1, d_model), (d_model)
};

}  // namespace sidewinder::cpu
