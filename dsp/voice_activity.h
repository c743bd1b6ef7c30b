// Whether somebody speaks: a detector of voice activity over a tracked noise floor.
//
// Frames of kWindow samples, kHop apart (20 ms at 16 kHz), become log-mel energies e[b] in kBands bands. Each
// band's noise floor n[b] is tracked by minimum statistics (R. Martin, "Noise power spectral density
// estimation based on optimal smoothing and minimum statistics", IEEE Trans. Speech and Audio Processing
// 9(5), 2001), in the log domain, with a constant smoothing and bias instead of the optimal ones:
//
//   p[b] = a p[b] + (1 - a) e[b]           n[b] = bias + the least p[b] of the last floor_frames
//
// the minimum being kept in kParts parts of that window, as he does too. How far the frame rises over the
// floor, smoothed:
//
//   x += excess_rate (sqrt(1 / kBands sum over b of max(0, e[b] - n[b])^2) - x)
//
// a relative of the long-term spectral divergence (J. Ramirez et al., Speech Communication 42, 2004) with the
// logarithm inside the mean, which no single band can outweigh. Voice begins where x reaches `begin`, and
// holds while it is at least `end` and for hangover_frames after that (as in ITU-T G.729 Annex B), for words
// end softly.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "dsp/log_mel.h"

namespace sidewinder::dsp {

struct VoiceActivityConfig {
  int sample_rate = 16'000;  // Hz
  float begin = 1.0f;        // x (natural log of an energy ratio) at which voice begins
  float end = 0.7f;          // and under which it ends
  int hangover_frames = 4;   // that are voice still
  int floor_frames = 144;    // of the minimum's window; a multiple of VoiceActivityState::kParts
  float excess_rate = 0.5f;  // above 0 to 1
  float smoothing = 0.8f;    // a; 0 to 1
  float bias = 0.8f;         // of the minimum of a smoothed noise against its mean
};

// What one stream carries from call to call. Plain and trivially copyable, its bytes independent of the
// chunking.
struct VoiceActivityState {
  static constexpr int kBands = 24;    // a multiple of 8
  static constexpr int kParts = 8;     // of the minimum's window
  static constexpr int kWindow = 512;  // samples
  using Bands = std::array<float, kBands>;

  std::uint64_t samples = 0;          // taken in so far
  std::uint64_t frames = 0;           // decided so far
  std::array<float, kWindow> tail{};  // samples of the next frame, from its first on
  Bands smoothed{};                   // p
  Bands running{};                    // least p of the part that is not complete
  std::array<Bands, kParts> parts{};  // of the complete ones, the latest at (frames / part - 1) % kParts
  float excess = 0;                   // x
  std::int32_t hangover = 0;          // frames of it that are left
  std::int32_t active = 0;            // 1: x holds
};

// Immutable after construction: any number of threads may share one, each call with a state and working
// memory of its own. Nothing is allocated after construction.
class VoiceActivity {
 public:
  static constexpr int kHop = 320;                                       // samples between frames
  static constexpr std::uint64_t kMostSamples = std::uint64_t{1} << 45;  // of a stream: 69 years at 16 kHz

  // Throws std::invalid_argument where `config` breaks a rule above.
  explicit VoiceActivity(const VoiceActivityConfig& config);

  // Takes in all of `in`, samples in [-1, 1] and finite; calls sink(bool voice) for each frame completed, in
  // order: frame t saw samples kHop t to kHop t + kWindow. The decisions depend on the samples alone.
  template <class Sink>
  void process(VoiceActivityState& state, std::span<const float> in, LogMelScratch& scratch,
               Sink&& sink) const noexcept {
    framer_.process(state.samples, state.tail.data(), in,
                    [&](const float* samples) { sink(decide(state, samples, scratch)); });
  }

  // Whether a state that came from outside (a capsule) can be gone on with: one that process() made is.
  bool valid(const VoiceActivityState& state) const noexcept {
    return state.samples < kMostSamples && state.frames == framer_.frames(state.samples);
  }

  // The sample in a frame's middle.
  static constexpr std::int64_t middle(std::uint64_t frame) noexcept {
    return static_cast<std::int64_t>(frame) * kHop + VoiceActivityState::kWindow / 2;
  }

 private:
  bool decide(VoiceActivityState& state, const float* samples, LogMelScratch& scratch) const noexcept;

  VoiceActivityConfig config_;
  LogMel log_mel_;
  Framer framer_;
};

}  // namespace sidewinder::dsp
