#include "daemon/live/voice_track.h"

#include <algorithm>

namespace sidewinder::live {

VoiceTrack::VoiceTrack(const ModelConfig& config)
    : detector_({.sample_rate = config.sample_rate}),
      hop_(config.frame_hop()),
      offset_((config.first_frame_samples() - config.frame_hop()) / 2) {
  const std::int64_t frames = kMostSeconds * config.sample_rate / hop_ + config.stem.lookahead + 4;
  state_.voices.resize(static_cast<std::size_t>(frames));
}

void VoiceTrack::reset() {
  state_.detector = {};
  state_.frames = 0;
}

void VoiceTrack::hear(std::span<const float> samples) noexcept {
  dsp::LogMelScratch scratch;
  const auto size = static_cast<std::int64_t>(state_.voices.size());
  std::uint64_t at = state_.detector.frames;
  detector_.process(state_.detector, samples, scratch, [&](bool voice) {
    const std::int64_t frame = frame_of(at++);
    for (; state_.frames <= frame; ++state_.frames)
      state_.voices[static_cast<std::size_t>(state_.frames % size)] = 0;
    if (voice) state_.voices[static_cast<std::size_t>(frame % size)] = 1;
  });
}

std::int64_t VoiceTrack::frame_of(std::uint64_t decision) const noexcept {
  return (dsp::VoiceActivity::middle(decision) - offset_) / hop_;
}

bool VoiceTrack::is_voice(std::int64_t frame) const noexcept {
  const auto size = static_cast<std::int64_t>(state_.voices.size());
  return frame < state_.frames && frame >= state_.frames - size &&
         state_.voices[static_cast<std::size_t>(frame % size)] != 0;
}

bool VoiceTrack::fits(const State& state) const noexcept {
  const std::uint64_t decided = state.detector.frames;
  return state.voices.size() == state_.voices.size() && detector_.valid(state.detector) &&
         state.frames == (decided > 0 ? frame_of(decided - 1) + 1 : 0);
}

}  // namespace sidewinder::live
