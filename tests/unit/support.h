// What the model's tests share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "daemon/audio/audio_reader.h"
#include "model/weights.h"

namespace sidewinder::test {

inline std::filesystem::path tests_folder() {
  return SIDEWINDER_TEST_DATA;
}
inline std::filesystem::path default_model_folder() {
  return tests_folder().parent_path() / "model" / "pretrained";
}

inline const Model& default_model() {
  static const Model model = load_model(default_model_folder());
  return model;
}

// The sanitizers make everything some twenty times slower, so there the tests hear less of each recording.
#ifdef __SANITIZE_ADDRESS__
inline constexpr double kLongestClip = 5;  // seconds
#else
inline constexpr double kLongestClip = 60;
#endif

// The samples of a mono 16 kHz clip of tests/data, in [-1, 1), up to kLongestClip of them.
inline std::vector<float> read_clip(const std::string& name) {
  auto reader = open_sound_file(tests_folder() / "data" / name);
  std::vector<float> samples(static_cast<std::size_t>(reader->expected_frames().value()));
  samples.resize(reader->read(samples));
  samples.resize(std::min(samples.size(), static_cast<std::size_t>(kLongestClip * 16000)));
  return samples;
}

// ||a - b|| / ||b||
inline double relative_error(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - b[i], 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(error / norm);
}

// FNV-1a over the bits of any plain values: equal bits, equal hash.
template <typename T>
std::uint64_t hash_bits(std::span<const T> values, std::uint64_t hash = 14695981039346656037u) {
  for (std::byte byte : std::as_bytes(values))
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 1099511628211u;
  return hash;
}

}  // namespace sidewinder::test
