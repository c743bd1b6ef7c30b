// The Mamba-1 mixer (Gu and Dao 2023, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces",
// algorithm 2; parameters as in state-spaces/mamba).
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/cpu/linear.h"
#include "model/cpu/rows.h"
#include "model/state_layout.h"

namespace sidewinder::cpu {

class Mamba1 {
 public:
  // Working memory of one forward call over up to `rows` rows; one a thread.
  struct Scratch {
    Scratch(const ModelConfig& config, int rows);
    std::vector<float> inner;       // (rows, 2 d_inner): u before the convolution, and z
    std::vector<float> u;           // (rows, d_inner)
    std::vector<float> projection;  // (rows, dt_rank + 2 d_state): dt before its projection, B, C
    std::vector<float> dt;          // (rows, d_inner)
    std::vector<float> y;           // (rows, d_inner)
  };

  // `tensor(name)` gives in_proj.weight, conv1d.weight, ... with their shapes already checked.
  template <typename Lookup>
  Mamba1(const ModelConfig& config, const LayerState& state, Lookup&& tensor)
      : config_(config),
        state_(state),
        in_proj_(tensor("in_proj.weight")),
        x_proj_(tensor("x_proj.weight")),
        dt_proj_(tensor("dt_proj.weight")),
        out_proj_(tensor("out_proj.weight")),
        conv_weight_(transposed(tensor("conv1d.weight"))),
        conv_bias_(tensor("conv1d.bias").to_floats()),
        dt_bias_(tensor("dt_proj.bias").to_floats()),
        decay_(decay_rates(tensor("A_log"))),
        skip_(tensor("D").to_floats()) {}

  // out (rows, d_model) += mixer(x (rows, d_model)); segments cover the rows and carry each stream's state
  // on. Rows are dense. Thread rule: const, but a state belongs to one call at a time.
  void forward(const float* x, int rows, std::span<const Segment> segments, float* out,
               Scratch& scratch) const noexcept;

 private:
  static std::vector<float> decay_rates(const TensorView& a_log);

  void convolve(const Segment& segment, Scratch& scratch) const noexcept;
  void scan(const Segment& segment, Scratch& scratch) const noexcept;
  template <int kGroup>
  void scan_channels(int channel, const Segment& segment, Scratch& scratch) const noexcept;

  ModelConfig config_;
  LayerState state_;
  PackedMatrix in_proj_, x_proj_, dt_proj_, out_proj_;
  std::vector<float> conv_weight_;  // (d_conv, d_inner)
  std::vector<float> conv_bias_;    // (d_inner)
  std::vector<float> dt_bias_;      // (d_inner)
  std::vector<float> decay_;        // (d_state, d_inner): A log2(e), so that exp(dt A) = 2^(dt decay)
  std::vector<float> skip_;         // (d_inner): D
};

}  // namespace sidewinder::cpu
