// One stream's voice activity, by the encoder's frames.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "dsp/voice_activity.h"
#include "model/config.h"

namespace sidewinder::live {

// The encoder gives its frames later than their samples come, and many at a time: what was decided is kept
// until they do. Thread rule: one thread at a time. Allocates nothing after construction.
class VoiceTrack {
 public:
  explicit VoiceTrack(const ModelConfig& config);

  // A stream that has heard nothing.
  void reset();

  // The next samples, at the model's rate: at most kMostSeconds before is_voice() is asked for their frames.
  void hear(std::span<const float> samples) noexcept;

  // Whether there was voice in the samples that encoder frame `frame` (from the stream's start) stands for.
  // Frames that no sample was heard of have none.
  bool is_voice(std::int64_t frame) const noexcept;

  // All there is to it, for the state capsule.
  struct State {
    dsp::VoiceActivityState detector;
    std::int64_t frames = 0;           // of the encoder, that have decisions
    std::vector<std::uint8_t> voices;  // of the last ones: frame f at f % size
  };
  const State& state() const noexcept { return state_; }
  bool fits(const State& state) const noexcept;  // whether it can be set: a track of such a model made it
  void set_state(const State& state) { state_ = state; }

 private:
  std::int64_t frame_of(std::uint64_t decision) const noexcept;  // of the encoder

  static constexpr std::int64_t kMostSeconds = 3;

  const dsp::VoiceActivity detector_;
  const std::int64_t hop_;     // samples a frame of the encoder
  const std::int64_t offset_;  // samples: where frame 0 begins
  State state_;
};

}  // namespace sidewinder::live
