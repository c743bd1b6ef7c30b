#include <cmath>
#include <cstring>
#include <numbers>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "dsp/voice_activity.h"

namespace sidewinder::dsp {
namespace {

constexpr std::size_t kSecond = 16'000;

// Noise of `level`, a steady voice-like tone complex of `voice` in it from `begin` to `end` (samples).
std::vector<float> signal(std::size_t count, float level, float voice, std::size_t begin, std::size_t end) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> samples(count);
  for (std::size_t i = 0; i < count; ++i) {
    samples[i] = level * normal(random);
    if (i < begin || i >= end) continue;
    const double t = static_cast<double>(i) / 16'000;
    for (int harmonic = 1; harmonic <= 20; ++harmonic)
      samples[i] +=
          voice * static_cast<float>(std::sin(2 * std::numbers::pi * 140 * harmonic * t) / harmonic);
  }
  return samples;
}

std::vector<bool> decide(const VoiceActivity& detector, VoiceActivityState& state,
                         std::span<const float> samples) {
  LogMelScratch scratch;
  std::vector<bool> voices;
  detector.process(state, samples, scratch, [&](bool voice) { voices.push_back(voice); });
  return voices;
}

std::vector<bool> decide(std::span<const float> samples) {
  VoiceActivityState state;
  return decide(VoiceActivity({}), state, samples);
}

std::size_t count(const std::vector<bool>& voices, std::size_t begin_sample, std::size_t end_sample) {
  std::size_t voiced = 0;
  for (std::size_t t = 0; t < voices.size(); ++t) {
    const auto middle = static_cast<std::size_t>(VoiceActivity::middle(t));
    voiced += middle >= begin_sample && middle < end_sample && voices[t];
  }
  return voiced;
}

TEST(VoiceActivity, HearsAVoiceOverNoiseOfAnyLevelAndOnlyThere) {
  for (const float level : {0.0f, 1e-4f, 1e-3f, 1e-2f}) {
    const auto voices = decide(signal(4 * kSecond, level, 0.1f, 2 * kSecond, 3 * kSecond));
    EXPECT_LE(count(voices, 0, 2 * kSecond - 512), 2u) << level;                   // of 98
    EXPECT_EQ(count(voices, 2 * kSecond + 512, 3 * kSecond - 512), 47u) << level;  // all
    EXPECT_LE(count(voices, 3 * kSecond + 3'200, 4 * kSecond), 1u) << level;  // after the hangover; of 40
  }
}

TEST(VoiceActivity, SilenceAndADigitalStartAreNoVoice) {
  EXPECT_EQ(count(decide(std::vector<float>(3 * kSecond)), 0, 3 * kSecond), 0u);
  const auto faint = decide(signal(3 * kSecond, 1e-5f, 0, 0, 0));  // -100 dBFS
  EXPECT_EQ(count(faint, 0, 3 * kSecond), 0u);
}

TEST(VoiceActivity, TheFloorFollowsNoiseThatGrowsLouder) {
  auto samples = signal(2 * kSecond, 1e-3f, 0, 0, 0);
  const auto louder = signal(6 * kSecond, 1e-2f, 0, 0, 0);
  samples.insert(samples.end(), louder.begin(), louder.end());
  const auto voices = decide(samples);
  EXPECT_GT(count(voices, 2 * kSecond, 3 * kSecond), 40u);  // it can't know yet
  EXPECT_LE(count(voices, 6 * kSecond, 8 * kSecond), 3u);   // of 100: it does now
}

TEST(VoiceActivity, TheSameDecisionsAndStateHoweverTheSamplesAreCutOrTheStreamIsMoved) {
  const auto samples = signal(2 * kSecond, 3e-3f, 0.05f, kSecond / 2, kSecond);
  const VoiceActivity detector({});
  VoiceActivityState whole;
  const auto expected = decide(detector, whole, samples);
  EXPECT_EQ(expected.size(), (samples.size() - VoiceActivityState::kWindow) / VoiceActivity::kHop + 1);
  std::mt19937 random(1);
  for (const std::size_t most : {7u, 320u, 2'560u}) {
    VoiceActivityState state;
    std::vector<bool> voices;
    for (std::size_t at = 0; at < samples.size();) {
      const std::size_t count = std::min(samples.size() - at, 1 + random() % most);
      alignas(VoiceActivityState) std::byte moved[sizeof(VoiceActivityState)];
      std::memcpy(moved, &state, sizeof(state));
      VoiceActivityState other;
      std::memcpy(&other, moved, sizeof(other));
      const VoiceActivity elsewhere({});
      const auto part = decide(elsewhere, other, std::span(samples).subspan(at, count));
      voices.insert(voices.end(), part.begin(), part.end());
      state = other;
      at += count;
    }
    EXPECT_EQ(voices, expected) << most;
    EXPECT_EQ(std::memcmp(&state, &whole, sizeof(state)), 0) << most;
  }
}

TEST(VoiceActivity, TellsStatesThatAreNone) {
  const VoiceActivity detector({});
  VoiceActivityState state;
  EXPECT_TRUE(detector.valid(state));
  decide(detector, state, std::vector<float>(12'345));
  EXPECT_TRUE(detector.valid(state));
  state.frames += 1;
  EXPECT_FALSE(detector.valid(state));
  state = {};
  state.samples = ~std::uint64_t{0};
  EXPECT_FALSE(detector.valid(state));
}

TEST(VoiceActivity, RefusesSettingsThatBreakARule) {
  EXPECT_THROW(VoiceActivity({.begin = 1, .end = 2}), std::invalid_argument);
  EXPECT_THROW(VoiceActivity({.floor_frames = 9}), std::invalid_argument);
  EXPECT_THROW(VoiceActivity({.smoothing = 1}), std::invalid_argument);
  EXPECT_THROW(VoiceActivity({.hangover_frames = -1}), std::invalid_argument);
  EXPECT_THROW(VoiceActivity({.sample_rate = 0}), std::invalid_argument);
}

}  // namespace
}  // namespace sidewinder::dsp
