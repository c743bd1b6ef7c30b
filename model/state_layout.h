// Where everything of one stream's encoder state lies, in float32 elements from the slot's start: arithmetic
// only. Both engines keep these bytes in this order, so that a stream can move between them in mid-sentence.
#pragma once

#include <cstddef>
#include <vector>

#include "model/config.h"

namespace sidewinder {

struct LayerState {
  std::size_t conv;  // (d_conv - 1, d_inner): the last inputs of the causal convolution, oldest first
  std::size_t ssm;   // (d_state, d_inner): h, channel fastest
};

class StateLayout {
 public:
  explicit StateLayout(const ModelConfig& config);

  std::size_t samples;    // (window_length): the tail that the next feature frame still needs, oldest first
  std::size_t features;   // (kernel - 1, n_mels): normalised feature frames that conv1 still needs
  std::size_t conv1;      // (kernel - 1, d_model): outputs of conv1 that conv2 still needs
  std::size_t lookahead;  // (lookahead, d_model): stem frames whose future has not come yet
  std::vector<LayerState> layers;
  std::size_t size;  // floats a slot; a multiple of 16, so that slots stay on 64-byte lines

 private:
  std::size_t take(std::size_t floats);
};

}  // namespace sidewinder
