#include "dsp/voice_activity.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <type_traits>

namespace sidewinder::dsp {
namespace {

using State = VoiceActivityState;
static_assert(std::is_trivially_copyable_v<State>);

constexpr double kLowest = 100, kHighest = 7'000;  // Hz; hum lies under it
// Energy that counts as silence whatever the floor is: white noise of -69 dB relative to full scale.
constexpr double kSilence = 1e-4;

LogMelConfig bands(int sample_rate) {
  return {.sample_rate = sample_rate,
          .window_length = State::kWindow,
          .hop_length = VoiceActivity::kHop,
          .fft_length = State::kWindow,
          .n_mels = State::kBands,
          .f_min = kLowest,
          .f_max = std::min(kHighest, 0.5 * sample_rate),
          .log_floor = kSilence};
}

void require(bool ok, const char* rule) {
  if (!ok) throw std::invalid_argument(std::string("voice_activity: ") + rule);
}

}  // namespace

VoiceActivity::VoiceActivity(const VoiceActivityConfig& config)
    : config_(config), log_mel_(bands(config.sample_rate)), framer_(State::kWindow, kHop) {
  require(config.end > 0 && config.end <= config.begin, "0 < end <= begin must hold");
  require(config.hangover_frames >= 0, "hangover_frames must not be negative");
  require(config.floor_frames >= State::kParts && config.floor_frames % State::kParts == 0,
          "floor_frames must be a multiple of kParts");
  require(config.excess_rate > 0 && config.excess_rate <= 1, "excess_rate must be from 0 (exclusive) to 1");
  require(config.smoothing >= 0 && config.smoothing < 1, "smoothing must be from 0 to 1 (exclusive)");
}

bool VoiceActivity::decide(State& state, const float* samples, LogMelScratch& scratch) const noexcept {
  State::Bands energy;
  log_mel_.frame(samples, energy.data(), scratch);
  if (state.frames == 0) {  // no past: the first frame is the floor
    state.smoothed = energy;
    state.running = energy;
    state.parts.fill(energy);
  }
  float excess = 0;
  for (std::size_t b = 0; b < State::kBands; ++b) {
    state.smoothed[b] = config_.smoothing * state.smoothed[b] + (1 - config_.smoothing) * energy[b];
    state.running[b] = std::min(state.running[b], state.smoothed[b]);
    float least = state.running[b];
    for (const State::Bands& part : state.parts) least = std::min(least, part[b]);
    const float over = std::max(0.0f, energy[b] - (least + config_.bias));
    excess += over * over;
  }
  state.excess += config_.excess_rate * (std::sqrt(excess / State::kBands) - state.excess);
  ++state.frames;
  const auto part_frames = static_cast<std::uint64_t>(config_.floor_frames / State::kParts);
  if (state.frames % part_frames == 0) {
    state.parts[(state.frames / part_frames - 1) % State::kParts] = state.running;
    state.running = state.smoothed;
  }

  state.active = state.excess >= (state.active != 0 ? config_.end : config_.begin);
  if (state.active != 0) {
    state.hangover = config_.hangover_frames;
    return true;
  }
  if (state.hangover <= 0) return false;
  --state.hangover;
  return true;
}

}  // namespace sidewinder::dsp
