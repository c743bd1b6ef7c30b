#include "model/cpu/mamba1.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace sidewinder::cpu {

Mamba1::Scratch::Scratch(const ModelConfig& config, int rows)
    : inner(static_cast<std::size_t>(rows) * 2 * config.d_inner()),
      u(static_cast<std::size_t>(rows) * config.d_inner()),
      projection(static_cast<std::size_t>(rows) * (config.ssm.dt_rank + 2 * config.ssm.d_state)),
      dt(u.size()),
      y(u.size()) {}

std::vector<float> Mamba1::decay_rates(const TensorView& a_log) {
  std::vector<float> rates = transposed(a_log);
  for (float& rate : rates)
    rate = static_cast<float>(-std::exp(static_cast<double>(rate)) * std::numbers::log2e);
  return rates;
}

void Mamba1::forward(const float* x, int rows, std::span<const Segment> segments, float* out,
                     Scratch& scratch) const noexcept {
  const int e = config_.d_inner(), rank = config_.ssm.dt_rank;
  const int projected = rank + 2 * config_.ssm.d_state;
  in_proj_.multiply(x, config_.d_model, rows, scratch.inner.data(), 2 * e);
  for (const Segment& segment : segments) convolve(segment, scratch);
  x_proj_.multiply(scratch.u.data(), e, rows, scratch.projection.data(), projected);
  dt_proj_.multiply(scratch.projection.data(), projected, rows, scratch.dt.data(), e);
  for (int row = 0; row < rows; ++row) {
    float* dt = scratch.dt.data() + row * e;
    for (int c = 0; c < e; c += kLanes)
      store(dt + c, softplus(ei::padd(load(dt + c), load(dt_bias_.data() + c))));
  }
  for (const Segment& segment : segments) scan(segment, scratch);
  for (int row = 0; row < rows; ++row)
    gate(scratch.y.data() + row * e, scratch.inner.data() + row * 2 * e + e, e);
  out_proj_.multiply(scratch.y.data(), e, rows, out, config_.d_model, true);
}

// u_t = SiLU(bias + sum over k of w_k in_{t - d_conv + 1 + k}); inputs before the segment come from the
// state.
void Mamba1::convolve(const Segment& segment, Scratch& scratch) const noexcept {
  const int e = config_.d_inner(), taps = config_.ssm.d_conv, kept = taps - 1;
  float* tail = segment.state + state_.conv;
  const float* in = scratch.inner.data() + static_cast<std::ptrdiff_t>(segment.first_row) * 2 * e;
  float* out = scratch.u.data() + static_cast<std::ptrdiff_t>(segment.first_row) * e;
  auto input = [&](int t) {
    return t < 0 ? tail + (kept + t) * e : in + static_cast<std::ptrdiff_t>(t) * 2 * e;
  };
  for (int t = 0; t < segment.rows; ++t)
    for (int c = 0; c < e; c += kLanes) {
      Packet sum = load(conv_bias_.data() + c);
      for (int k = 0; k < taps; ++k)
        sum = fma(load(conv_weight_.data() + k * e + c), load(input(t - kept + k) + c), sum);
      store(out + static_cast<std::ptrdiff_t>(t) * e + c, silu(sum));
    }
  // Oldest first: each row moves down before the one it needs is overwritten.
  for (int k = 0; k < kept; ++k) std::copy_n(input(segment.rows - kept + k), e, tail + k * e);
}

void Mamba1::scan(const Segment& segment, Scratch& scratch) const noexcept {
  const int e = config_.d_inner();
  int channel = 0;
  for (; channel + 2 * kLanes <= e; channel += 2 * kLanes) scan_channels<2>(channel, segment, scratch);
  for (; channel < e; channel += kLanes) scan_channels<1>(channel, segment, scratch);
}

// h = exp(dt A) h + dt u B and y = h C + D u, for kGroup packets of channels over all the segment's rows: a
// few channels at a time, so that h and A of these stay in the first-level cache.
template <int kGroup>
void Mamba1::scan_channels(int channel, const Segment& segment, Scratch& scratch) const noexcept {
  const int e = config_.d_inner(), n_states = config_.ssm.d_state, rank = config_.ssm.dt_rank;
  const int projected = rank + 2 * n_states;
  float* states = segment.state + state_.ssm + channel;
  const float* decays = decay_.data() + channel;
  for (int t = 0; t < segment.rows; ++t) {
    const std::ptrdiff_t row = segment.first_row + t;
    const float* b = scratch.projection.data() + row * projected + rank;
    const float* c = b + n_states;
    Packet dt[kGroup], input[kGroup], y[kGroup];
    for (int g = 0; g < kGroup; ++g) {
      const std::ptrdiff_t at = row * e + channel + g * kLanes;
      Packet u = load(scratch.u.data() + at);
      dt[g] = load(scratch.dt.data() + at);
      input[g] = ei::pmul(dt[g], u);
      y[g] = ei::pmul(load(skip_.data() + channel + g * kLanes), u);
    }
    for (int n = 0; n < n_states; ++n) {
      Packet weight_in = splat(b[n]), weight_out = splat(c[n]);
      for (int g = 0; g < kGroup; ++g) {
        float* state = states + n * e + g * kLanes;
        Packet decay = exp2_nonpositive(ei::pmul(dt[g], load(decays + n * e + g * kLanes)));
        Packet h = fma(decay, load(state), ei::pmul(input[g], weight_in));
        store(state, h);
        y[g] = fma(h, weight_out, y[g]);
      }
    }
    for (int g = 0; g < kGroup; ++g) store(scratch.y.data() + row * e + channel + g * kLanes, y[g]);
  }
}

}  // namespace sidewinder::cpu
