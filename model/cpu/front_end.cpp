#include "model/cpu/front_end.h"

#include <algorithm>

#include "model/cpu/rows.h"

namespace sidewinder::cpu {
namespace {

dsp::LogMelConfig log_mel_config(const ModelConfig& config) {
  const FeatureConfig& features = config.features;
  return {config.sample_rate, features.window_length, features.hop_length, features.fft_length,
          features.n_mels,    features.f_min,         features.f_max,      features.log_floor};
}

// (outputs, channels, taps) as stored -> inputs in the order (taps, channels), as consecutive rows lie in
// memory.
PackedMatrix time_convolution(const TensorView& tensor) {
  std::int64_t channels = tensor.shape[1], taps = tensor.shape[2];
  std::vector<std::int64_t> order;
  for (std::int64_t channel = 0; channel < channels; ++channel)
    for (std::int64_t tap = 0; tap < taps; ++tap) order.push_back(tap * channels + channel);
  return PackedMatrix(tensor, order);
}

void add_bias_silu(float* rows, int count, const std::vector<float>& bias) {
  const int width = static_cast<int>(bias.size());
  for (int row = 0; row < count; ++row)
    for (int c = 0; c < width; c += kLanes) {
      float* at = rows + static_cast<std::ptrdiff_t>(row) * width + c;
      store(at, silu(ei::padd(load(at), load(bias.data() + c))));
    }
}

std::size_t floats(std::int64_t rows, int width) {
  return static_cast<std::size_t>(rows) * width;
}

}  // namespace

FrontEnd::Scratch::Scratch(const ModelConfig& config, int rows) {
  const StemConfig& shape = config.stem;
  // A frame of slack at each level: the first rows of a stream need a whole window, later ones a stride.
  std::int64_t conv1_rows = shape.kernel + (rows + 1) * shape.stride;
  std::int64_t feature_rows = shape.kernel + (conv1_rows + 1) * shape.stride;
  features.resize(floats(feature_rows, config.features.n_mels));
  conv1.resize(floats(conv1_rows, config.d_model));
  stem.resize(floats(2 * shape.lookahead + rows, config.d_model));
}

FrontEnd::FrontEnd(const ModelConfig& config, const Weights& weights, const StateLayout& layout)
    : config_(config),
      layout_(layout),
      log_mel_(log_mel_config(config)),
      framer_(config.features.window_length, config.features.hop_length),
      mean_(weights.tensor("features.mean").to_floats()),
      inv_std_(weights.tensor("features.inv_std").to_floats()),
      conv1_(time_convolution(weights.tensor("stem.conv1.weight"))),
      conv2_(time_convolution(weights.tensor("stem.conv2.weight"))),
      conv1_bias_(weights.tensor("stem.conv1.bias").to_floats()),
      conv2_bias_(weights.tensor("stem.conv2.bias").to_floats()),
      norm_(weights.tensor("stem.norm.weight").to_floats()) {
  if (config.stem.lookahead == 0) return;
  lookahead_weight_ = transposed(weights.tensor("stem.lookahead.weight"));
  lookahead_bias_ = weights.tensor("stem.lookahead.bias").to_floats();
}

std::int64_t FrontEnd::rows_given(const StreamClock& clock) const noexcept {
  return clock.ended ? config_.stem_frames(clock.samples) : config_.frames_given(clock.samples);
}

int FrontEnd::advance(float* state, StreamClock& clock, std::span<const float>& samples, int most,
                      float* rows, Scratch& scratch) const noexcept {
  const int mels = config_.features.n_mels, d = config_.d_model, stride = config_.stem.stride;
  const std::int64_t features_before = config_.feature_frames(clock.samples);
  const std::int64_t conv1_before = config_.stem_outputs(features_before);
  const std::int64_t stem_before = config_.stem_outputs(conv1_before);

  // One sample more would complete row `stem_before + most`, counted from 0.
  const std::int64_t limit = (stem_before + most) * config_.frame_hop() + config_.first_frame_samples() - 1;
  const auto taken = samples.first(std::min<std::size_t>(samples.size(), limit - clock.samples));
  samples = samples.subspan(taken.size());

  // Each level: rows kept from before, then new ones behind them, then what the next call needs goes back.
  std::int64_t kept = features_before - conv1_before * stride;
  std::copy_n(state + layout_.features, kept * mels, scratch.features.data());
  float* feature = scratch.features.data() + kept * mels;
  auto seen = static_cast<std::uint64_t>(clock.samples);
  framer_.process(seen, state + layout_.samples, taken, [&](const float* window) {
    log_mel_.frame(window, feature, scratch.log_mel);
    for (int m = 0; m < mels; ++m) feature[m] = (feature[m] - mean_[m]) * inv_std_[m];
    feature += mels;
  });
  clock.samples += static_cast<std::int64_t>(taken.size());
  const std::int64_t features_after = config_.feature_frames(clock.samples);
  const std::int64_t conv1_after = config_.stem_outputs(features_after);
  const std::int64_t stem_after = config_.stem_outputs(conv1_after);

  const int new_conv1 = static_cast<int>(conv1_after - conv1_before);
  std::int64_t kept_conv1 = conv1_before - stem_before * stride;
  std::copy_n(state + layout_.conv1, kept_conv1 * d, scratch.conv1.data());
  float* conv1 = scratch.conv1.data() + kept_conv1 * d;
  conv1_.multiply(scratch.features.data(), stride * mels, new_conv1, conv1, d);
  add_bias_silu(conv1, new_conv1, conv1_bias_);
  std::copy_n(scratch.features.data() + static_cast<std::ptrdiff_t>(new_conv1) * stride * mels,
              (features_after - conv1_after * stride) * mels, state + layout_.features);

  const int new_stem = static_cast<int>(stem_after - stem_before);
  const int known = static_cast<int>(std::min<std::int64_t>(stem_before, config_.stem.lookahead));
  float* stem = scratch.stem.data() + static_cast<std::ptrdiff_t>(known) * d;
  conv2_.multiply(scratch.conv1.data(), stride * d, new_stem, stem, d);
  add_bias_silu(stem, new_stem, conv2_bias_);
  for (int row = 0; row < new_stem; ++row)
    rms_norm(stem + row * d, norm_.data(), d, config_.norm_eps, stem + row * d);
  std::copy_n(scratch.conv1.data() + static_cast<std::ptrdiff_t>(new_stem) * stride * d,
              (conv1_after - stem_after * stride) * d, state + layout_.conv1);

  std::copy_n(state + layout_.lookahead, static_cast<std::size_t>(known) * d, scratch.stem.data());
  return look_ahead(state, known + new_stem, rows, scratch);
}

int FrontEnd::flush(float* state, const StreamClock& clock, float* rows, Scratch& scratch) const noexcept {
  const int d = config_.d_model, lookahead = config_.stem.lookahead;
  const int known = static_cast<int>(std::min<std::int64_t>(config_.stem_frames(clock.samples), lookahead));
  std::copy_n(state + layout_.lookahead, static_cast<std::size_t>(known) * d, scratch.stem.data());
  std::fill_n(scratch.stem.data() + static_cast<std::ptrdiff_t>(known) * d,
              static_cast<std::size_t>(lookahead) * d, 0.0f);
  return look_ahead(state, known + lookahead, rows, scratch);
}

// x_j += bias + sum over k of w_k x_{j+k}, for every stem row (of `known` in the scratch) whose future is
// there; the rest goes back to the state.
int FrontEnd::look_ahead(float* state, int known, float* rows, Scratch& scratch) const noexcept {
  const int d = config_.d_model, lookahead = config_.stem.lookahead;
  const int ready = std::max(0, known - lookahead);
  for (int row = 0; row < ready; ++row) {
    const float* x = scratch.stem.data() + static_cast<std::ptrdiff_t>(row) * d;
    float* out = rows + static_cast<std::ptrdiff_t>(row) * d;
    for (int c = 0; c < d; c += kLanes) {
      Packet sum = load(x + c);
      if (lookahead > 0) sum = ei::padd(sum, load(lookahead_bias_.data() + c));
      for (int k = 0; lookahead > 0 && k <= lookahead; ++k)
        sum = fma(load(lookahead_weight_.data() + k * d + c), load(x + k * d + c), sum);
      store(out + c, sum);
    }
  }
  std::copy_n(scratch.stem.data() + static_cast<std::ptrdiff_t>(ready) * d,
              static_cast<std::size_t>(known - ready) * d, state + layout_.lookahead);
  return ready;
}

}  // namespace sidewinder::cpu
