// Framing and log-mel features.
//
// A frame is `window_length` consecutive samples, frame t starting at sample t * hop_length (no padding):
// times a symmetric Hann window, zero-padded to `fft_length`, real FFT, squared magnitude, triangular filters
// (HTK mel scale m(f) = 2595 log10(1 + f / 700), corners evenly spaced in mel from f_min to f_max, unit peak,
// straight in Hz, evaluated at each bin's frequency), log(energy + log_floor). Mean and variance are the
// model's business.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace sidewinder::dsp {

inline constexpr int kMaxFftLength = 1'024;  // samples; bounds window_length too
inline constexpr int kMaxMels = 256;         // a multiple of 8

// Defaults are the seed model's.
struct LogMelConfig {
  int sample_rate = 16'000;  // Hz
  int window_length = 400;   // samples, at most fft_length
  int hop_length = 160;      // samples, at most window_length
  int fft_length = 512;      // samples, a power of two, 16..kMaxFftLength
  int n_mels = 80;           // 1..kMaxMels
  double f_min = 20.0;       // Hz
  double f_max = 7'600.0;    // Hz, at most sample_rate / 2
  double log_floor = 1e-6;   // added to the energy; above 0
};

// Working memory of one frame() call, about 12 kB, nothing kept between calls: one a thread, on the stack or
// a member.
struct LogMelScratch {
  template <std::size_t n>
  using Array = std::array<float, n>;
  alignas(64) Array<kMaxFftLength / 2> re[2];  // (fft_length / 2) complex values, two buffers
  alignas(64) Array<kMaxFftLength / 2> im[2];
  alignas(64) Array<kMaxFftLength / 2 + 16> power;  // (fft_length / 2 + 1)
  alignas(64) Array<kMaxMels> energy;               // (n_mels), filled up to whole lanes of 8
};

// One frame of samples -> one row of features. Immutable after construction: any number of threads may share
// one.
class LogMel {
 public:
  // Throws std::invalid_argument where `config` breaks a rule above. A filter so narrow that no bin falls in
  // it is allowed, and yields log(log_floor).
  explicit LogMel(const LogMelConfig& config);

  // samples: (window_length) in [-1, 1]; mel: (n_mels). No allocation. The bits depend on the samples alone.
  // A sample that is not finite makes features of its frame that are not finite.
  void frame(const float* samples, float* mel, LogMelScratch& scratch) const noexcept;

  const LogMelConfig& config() const noexcept { return config_; }

 private:
  struct Filter {
    std::size_t bin;     // first bin
    std::size_t weight;  // first weight
    std::size_t count;
  };

  void power_spectrum(const float* samples, LogMelScratch& scratch) const noexcept;

  LogMelConfig config_;
  std::vector<float> window_;    // (window_length)
  std::vector<float> twiddles_;  // radix-4 passes, see log_mel.cpp
  std::vector<float> split_re_;  // (fft_length / 2) exp(-2 pi i k / fft_length)
  std::vector<float> split_im_;
  std::vector<Filter> filters_;        // (n_mels)
  std::vector<float> filter_weights_;  // every filter's weights in a row
};

// What a stream keeps between calls to Framer: plain and trivially copyable, its bytes independent of the
// chunking. Any value is valid.
struct FramerState {
  std::uint64_t samples = 0;                // taken in so far
  std::array<float, kMaxFftLength> tail{};  // samples of the next frame, from its first on
};

// Cuts a stream of samples into overlapping frames. Immutable; any number of threads, each with its own
// state.
class Framer {
 public:
  // Lengths in samples. Throws std::invalid_argument unless 1 <= hop_length <= window_length <=
  // kMaxFftLength.
  Framer(int window_length, int hop_length);

  // Frames complete after `samples` samples.
  std::uint64_t frames(std::uint64_t samples) const noexcept {
    return samples < window_ ? 0 : (samples - window_) / hop_ + 1;
  }

  // Samples of the next frame that are in state.tail; less than window_length.
  std::size_t pending(const FramerState& state) const noexcept {
    return static_cast<std::size_t>(state.samples - frames(state.samples) * hop_);
  }

  // Takes in all of `in`; calls sink(const float* samples /*(window_length)*/) for each frame completed, in
  // order. The pointer holds during the call only. The sink must not throw.
  template <class Sink>
  void process(FramerState& state, std::span<const float> in, Sink&& sink) const noexcept {
    process(state.samples, state.tail.data(), in, sink);
  }

  // The same on a state that lies elsewhere: samples taken in so far, and a tail of (window_length) floats.
  template <class Sink>
  void process(std::uint64_t& samples, float* tail, std::span<const float> in, Sink&& sink) const noexcept {
    std::size_t have = static_cast<std::size_t>(samples - frames(samples) * hop_);
    while (!in.empty()) {
      const std::size_t n = std::min(in.size(), window_ - have);
      std::copy_n(in.data(), n, tail + have);
      in = in.subspan(n);
      samples += n;
      have += n;
      if (have < window_) return;
      sink(static_cast<const float*>(tail));
      have = window_ - hop_;
      std::copy_n(tail + hop_, have, tail);
    }
  }

 private:
  std::size_t window_;  // samples
  std::size_t hop_;     // samples
};

}  // namespace sidewinder::dsp
