// Row-wise pieces that several layers share. A row's result depends on that row alone.
#pragma once

#include <cmath>

#include "model/cpu/packet.h"

namespace sidewinder::cpu {

// Rows of one tile that belong to one stream, in time order.
struct Segment {
  int first_row = 0;
  int rows = 0;
  float* state = nullptr;  // the stream's slot (StateLayout)
};

// out = x / sqrt(mean(x^2) + eps) * weight over (width) floats, a multiple of 8 (Zhang and Sennrich 2019).
inline void rms_norm(const float* x, const float* weight, int width, float eps, float* out) {
  Packet sum = splat(0.0f);
  for (int c = 0; c < width; c += kLanes) {
    Packet value = load(x + c);
    sum = fma(value, value, sum);
  }
  float mean = ei::predux(sum) / static_cast<float>(width);
  Packet scale = splat(1.0f / std::sqrt(mean + eps));
  for (int c = 0; c < width; c += kLanes)
    store(out + c, ei::pmul(ei::pmul(load(x + c), scale), load(weight + c)));
}

// y = y * SiLU(gate) over (width) floats.
inline void gate(float* y, const float* gate_values, int width) {
  for (int c = 0; c < width; c += kLanes) store(y + c, ei::pmul(load(y + c), silu(load(gate_values + c))));
}

}  // namespace sidewinder::cpu
