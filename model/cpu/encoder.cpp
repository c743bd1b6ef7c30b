#include "model/cpu/encoder.h"

namespace sidewinder::cpu {

Encoder::Scratch::Scratch(const ModelConfig& config, int rows)
    : mixer(config, rows),
      normed(static_cast<std::size_t>(rows) * config.d_model),
      wide(static_cast<std::size_t>(rows) * 2 * config.d_intermediate) {}

Encoder::Encoder(const ModelConfig& config, const Weights& weights, const StateLayout& layout)
    : config_(config), final_norm_(weights.tensor("backbone.norm_f.weight").to_floats()) {
  for (int i = 0; i < config.n_layer; ++i) {
    std::string name = "backbone.layers." + std::to_string(i) + ".";
    auto mixer_tensor = [&](const char* part) -> const TensorView& {
      return weights.tensor(name + "mixer." + part);
    };
    std::optional<Mlp> mlp;
    if (config.d_intermediate > 0)
      mlp = Mlp{weights.tensor(name + "norm2.weight").to_floats(),
                PackedMatrix(weights.tensor(name + "mlp.fc1.weight")),
                PackedMatrix(weights.tensor(name + "mlp.fc2.weight"))};
    layers_.push_back({weights.tensor(name + "norm.weight").to_floats(),
                       Mamba1(config, layout.layers[static_cast<std::size_t>(i)], mixer_tensor),
                       std::move(mlp)});
  }
}

void Encoder::norm_rows(const float* x, const std::vector<float>& weight, int rows,
                        float* out) const noexcept {
  const int d = config_.d_model;
  for (int row = 0; row < rows; ++row)
    rms_norm(x + row * d, weight.data(), d, config_.norm_eps, out + row * d);
}

void Encoder::forward_layer(int layer, float* x, int rows, std::span<const Segment> segments,
                            Scratch& scratch) const noexcept {
  const Layer& block = layers_[static_cast<std::size_t>(layer)];
  const int d = config_.d_model, ff = config_.d_intermediate;
  float* normed = scratch.normed.data();
  norm_rows(x, block.norm, rows, normed);
  block.mixer.forward(normed, rows, segments, x, scratch.mixer);
  if (!block.mlp) return;
  // Gated MLP as in state-spaces/mamba: (y, g) = fc1 x; fc2 (y * SiLU(g)).
  norm_rows(x, block.mlp->norm, rows, normed);
  block.mlp->fc1.multiply(normed, d, rows, scratch.wide.data(), 2 * ff);
  for (int row = 0; row < rows; ++row) {
    float* y = scratch.wide.data() + static_cast<std::ptrdiff_t>(row) * 2 * ff;
    gate(y, y + ff, ff);
  }
  block.mlp->fc2.multiply(scratch.wide.data(), 2 * ff, rows, x, d, true);
}

void Encoder::normalise(const float* x, int rows, float* out) const noexcept {
  norm_rows(x, final_norm_, rows, out);
}

}  // namespace sidewinder::cpu
