#include "model/state_layout.h"

namespace sidewinder {

std::size_t StateLayout::take(std::size_t floats) {
  std::size_t offset = size;
  size += (floats + 15) / 16 * 16;
  return offset;
}

StateLayout::StateLayout(const ModelConfig& config) : size(0) {
  std::size_t d = config.d_model, e = config.d_inner();
  bool speech = config.kind == ModelKind::StreamingCtc;
  std::size_t pending = speech ? config.stem.kernel - 1 : 0;
  samples = take(config.features.window_length);
  features = take(pending * config.features.n_mels);
  conv1 = take(pending * d);
  lookahead = take(config.stem.lookahead * d);
  for (int i = 0; i < config.n_layer; ++i) {
    LayerState layer{};
    layer.conv = take((config.ssm.d_conv - 1) * e);
    layer.ssm = take(config.ssm.d_state * e);
    layers.push_back(layer);
  }
}

}  // namespace sidewinder
