// The stack of blocks: x += mixer(rms(x)), x += mlp(rms(x)), n_layer times, then the final norm.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/cpu/linear.h"
#include "model/cpu/mamba1.h"
#include "model/cpu/rows.h"
#include "model/state_layout.h"
#include "model/weights.h"

namespace sidewinder::cpu {

class Encoder {
 public:
  // Working memory of one call over up to `rows` rows; one a thread.
  struct Scratch {
    Scratch(const ModelConfig& config, int rows);
    Mamba1::Scratch mixer;
    std::vector<float> normed;  // (rows, d_model)
    std::vector<float> wide;    // (rows, 2 d_intermediate)
  };

  Encoder(const ModelConfig& config, const Weights& weights, const StateLayout& layout);

  int layers() const { return static_cast<int>(layers_.size()); }

  // One block over the rows of a tile, in place. x: (rows, d_model).
  void forward_layer(int layer, float* x, int rows, std::span<const Segment> segments,
                     Scratch& scratch) const noexcept;

  // Final norm. out: (rows, d_model).
  void normalise(const float* x, int rows, float* out) const noexcept;

 private:
  struct Mlp {
    std::vector<float> norm;  // (d_model)
    PackedMatrix fc1, fc2;
  };
  struct Layer {
    std::vector<float> norm;  // (d_model)
    Mamba1 mixer;
    std::optional<Mlp> mlp;
  };

  void norm_rows(const float* x, const std::vector<float>& weight, int rows, float* out) const noexcept;

  ModelConfig config_;
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;  // (d_model)
};

}  // namespace sidewinder::cpu
